# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Rulebooks in gather form: int32 `[K, M]`, `neighbors[k, o]` = input row or -1."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from voxgate_ops.reference._checks import (
    MAX_RULEBOOK_CELLS,
    MAX_SITES,
    check_index,
    check_kernel_volume,
    check_spatial_shape,
    per_axis,
)
from voxgate_ops.reference.coords import (
    check_canonical,
    find_keys,
    in_range,
    pack_keys,
    unpack_keys,
)


@dataclass(frozen=True)
class ConvGeometry:
    """Which input site i feeds which output site o through kernel index k, per axis.

    regular: `i = o * stride - padding + k * dilation`; transposed: `o = i * stride - padding + k *
    dilation`. Raises ValueError for values out of range.
    """

    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    output_padding: tuple[int, ...]
    transposed: bool = False

    def __post_init__(self) -> None:
        axes = len(self.kernel_size)
        per_axis(self.kernel_size, axes, "kernel_size", 1)
        per_axis(self.stride, axes, "stride", 1)
        per_axis(self.padding, axes, "padding", 0)
        per_axis(self.dilation, axes, "dilation", 1)
        per_axis(self.output_padding, axes, "output_padding", 0)
        check_kernel_volume(self.kernel_size)
        for extra, stride, dilation in zip(
            self.output_padding, self.stride, self.dilation, strict=True
        ):
            if self.transposed and extra >= max(stride, dilation):
                raise ValueError(
                    f"output_padding {list(self.output_padding)} must be below stride "
                    f"{list(self.stride)} or dilation {list(self.dilation)} on every axis"
                )

    def output_shape(self, spatial_shape: Sequence[int]) -> list[int]:
        """The output grid's size per axis; ValueError when an axis would come out below 1."""
        shape = []
        for size, k, s, p, d, extra in zip(
            spatial_shape,
            self.kernel_size,
            self.stride,
            self.padding,
            self.dilation,
            self.output_padding,
            strict=True,
        ):
            reach = d * (k - 1) + 1
            if self.transposed:
                shape.append((size - 1) * s - 2 * p + reach + extra)
            else:
                shape.append((size + 2 * p - reach) // s + 1)
        if any(size < 1 for size in shape):
            raise ValueError(
                f"spatial_shape {list(spatial_shape)} with kernel_size {list(self.kernel_size)}, "
                f"stride {list(self.stride)}, padding {list(self.padding)}, dilation "
                f"{list(self.dilation)} gives output shape {shape}"
            )
        return check_spatial_shape(shape)

    def offsets(self) -> Iterator[tuple[int, ...]]:
        """Kernel indices per axis, row-major, last axis fastest."""
        return itertools.product(*(range(size) for size in self.kernel_size))

    def feeds(self, sites: Tensor, offset: Sequence[int], to_output: bool) -> tuple[Tensor, Tensor]:
        """The partner of every site through one kernel offset.

        sites: `[N, 1+D]`; input sites when `to_output`, else output sites. Returns (partner int64
        `[N, 1+D]`, exists bool `[N]`: the equation has an integer solution; range is not checked).
        """
        device = sites.device
        stride = torch.tensor(self.stride, device=device)
        shift = torch.tensor(offset, device=device) * torch.tensor(self.dilation, device=device)
        shift = shift - torch.tensor(self.padding, device=device)
        batch, spatial = sites[:, :1].long(), sites[:, 1:].long()
        if to_output == self.transposed:
            partner, exists = spatial * stride + shift, torch.ones_like(batch[:, 0]).bool()
        else:
            partner = torch.div(spatial - shift, stride, rounding_mode="floor")
            exists = (partner * stride == spatial - shift).all(dim=1)
        return torch.cat([batch, partner], dim=1), exists


def _find(canonical_keys: Tensor, shape: Sequence[int], query: Tensor, valid: Tensor) -> Tensor:
    """int32: rows of the queried sites, -1 where not `valid`, out of the grid or not active."""
    row = torch.full((query.shape[0],), -1, dtype=torch.int32, device=query.device)
    valid = valid & in_range(query, shape)
    row[valid] = find_keys(canonical_keys, pack_keys(query[valid], shape))
    return row


def _check_cells(volume: int, rows: int) -> None:
    if volume * rows > MAX_RULEBOOK_CELLS:
        raise ValueError(
            f"a rulebook of {volume} offsets × {rows} sites passes the limit of "
            f"{MAX_RULEBOOK_CELLS} cells"
        )


def submanifold_geometry(kernel_size: Sequence[int], dilation: Sequence[int]) -> ConvGeometry:
    """Stride 1, padding `(k // 2) * d`; ValueError for an even kernel."""
    kernel, axes = tuple(int(k) for k in kernel_size), len(kernel_size)
    if any(k % 2 == 0 for k in kernel):
        raise ValueError(
            f"kernel_size {list(kernel)}: a submanifold kernel must be odd on every axis"
        )
    step = tuple(per_axis(dilation, axes, "dilation", 1))
    padding = tuple((k // 2) * d for k, d in zip(kernel, step, strict=True))
    return ConvGeometry(kernel, (1,) * axes, padding, step, (0,) * axes)


def submanifold_rulebook(
    coords: Tensor,
    spatial_shape: Sequence[int],
    kernel_size: Sequence[int],
    dilation: Sequence[int],
) -> Tensor:
    """neighbors int32 `[K, N]` of a submanifold convolution: output sites = input sites.

    coords: canonical int32 `[N, 1+D]`. Raises ValueError for even kernels, coords that are not
    canonical and values out of range.
    """
    check_canonical(coords, spatial_shape)
    axes = len(spatial_shape)
    geometry = submanifold_geometry(per_axis(kernel_size, axes, "kernel_size", 1), dilation)
    _check_cells(math.prod(geometry.kernel_size), coords.shape[0])
    keys = pack_keys(coords, spatial_shape)
    return torch.stack(
        [
            _find(keys, spatial_shape, *geometry.feeds(coords, offset, to_output=False))
            for offset in geometry.offsets()
        ]
    )


def sparse_rulebook(
    coords: Tensor,
    spatial_shape: Sequence[int],
    kernel_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool = False,
    output_padding: Sequence[int] | None = None,
    out_coords: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Output sites and rulebook of a regular or (generative) transposed convolution.

    coords: canonical int32 `[N, 1+D]`. Returns (out_coords int32 `[M, 1+D]`, canonical in
    `output_shape`, neighbors int32 `[K, M]`). Output sites are those that some input site feeds,
    or exactly `out_coords` where given (canonical too). Raises ValueError for values out of range,
    an output grid below 1 on an axis, and results over the limits of one call.
    """
    check_canonical(coords, spatial_shape)
    geometry = ConvGeometry(
        tuple(int(k) for k in kernel_size),
        tuple(int(s) for s in stride),
        tuple(int(p) for p in padding),
        tuple(int(d) for d in dilation),
        tuple(int(p) for p in (output_padding or [0] * len(kernel_size))),
        bool(transposed),
    )
    per_axis(kernel_size, len(spatial_shape), "kernel_size", 1)
    out_shape = geometry.output_shape(spatial_shape)
    if out_coords is None:
        out_coords = _generate_sites(coords, geometry, out_shape)
    else:
        check_canonical(out_coords, out_shape)
    _check_cells(math.prod(geometry.kernel_size), out_coords.shape[0])
    keys = pack_keys(coords, spatial_shape)
    neighbors = torch.stack(
        [
            _find(keys, spatial_shape, *geometry.feeds(out_coords, offset, to_output=False))
            for offset in geometry.offsets()
        ]
    )
    return out_coords, neighbors


def _generate_sites(coords: Tensor, geometry: ConvGeometry, out_shape: Sequence[int]) -> Tensor:
    fed = coords.new_zeros(0, dtype=torch.int64)
    for offset in geometry.offsets():
        site, exists = geometry.feeds(coords, offset, to_output=True)
        keys = pack_keys(site[exists & in_range(site, out_shape)], out_shape)
        fed = torch.unique(torch.cat([fed, keys]))
        if fed.numel() > MAX_SITES:
            raise ValueError(f"more than {MAX_SITES} output sites")
    return unpack_keys(fed, out_shape)


def inverse_rulebook(neighbors: Tensor, num_inputs: int) -> Tensor:
    """Swaps the roles: int32 `[K, num_inputs]`, `inverse[k, i]` = o for every pair, else -1.

    neighbors: int32 `[K, M]` with values in [-1, num_inputs). Raises ValueError for other values
    and where two output rows use one input row through one offset.
    """
    if neighbors.dtype != torch.int32 or neighbors.dim() != 2:
        raise ValueError(
            f"neighbors: expected int32 [K, M], got {neighbors.dtype} {list(neighbors.shape)}"
        )
    check_index(neighbors, num_inputs, "neighbors")
    volume = neighbors.shape[0]
    _check_cells(volume, num_inputs)
    offset, output = (neighbors >= 0).nonzero(as_tuple=True)
    cell = offset * num_inputs + neighbors[offset, output].long()
    distinct, count = torch.unique(cell, return_counts=True)
    if distinct.numel() != cell.numel():
        twice = int(distinct[count > 1][0])
        raise ValueError(
            f"input row {twice % num_inputs} feeds more than one output row through offset "
            f"{twice // num_inputs}"
        )
    inverse = torch.full((volume * num_inputs,), -1, dtype=torch.int32, device=neighbors.device)
    inverse[cell] = output.int()
    return inverse.reshape(volume, num_inputs)
