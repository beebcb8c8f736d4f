# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Between sites and dense tensors, and the union of two site sets."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from voxgate_ops.reference._checks import (
    MAX_DENSE_ELEMENTS,
    check_batch_size,
    check_coords,
    check_mode,
    check_rows,
    check_spatial_shape,
)
from voxgate_ops.reference._precision import in_float32
from voxgate_ops.reference.coords import group_rows, in_range, pack_keys


def sparse_to_dense(
    coords: Tensor, features: Tensor, batch_size: int, spatial_shape: Sequence[int]
) -> Tensor:
    """`[batch_size, C, *spatial_shape]`, 0 where no site is; of equal sites the last row wins.

    coords int32 `[N, 1+D]` in any order, features `[N, C]`. Raises ValueError for a site outside
    the grid or the batch, and for a dense tensor over the limit of 2^30 elements.
    """
    shape = check_spatial_shape(spatial_shape)
    check_coords(coords, len(shape))
    check_rows(features, coords.shape[0])
    batch_size, channels, volume = check_batch_size(batch_size), features.shape[1], math.prod(shape)
    if batch_size * channels * volume > MAX_DENSE_ELEMENTS:
        raise ValueError(
            f"a dense tensor of {[batch_size, channels, *shape]} passes the limit of "
            f"{MAX_DENSE_ELEMENTS} elements"
        )
    bad = ~in_range(coords, shape) | (coords[:, 0] < 0) | (coords[:, 0] >= batch_size)
    if bool(bad.any()):
        row = int(bad.nonzero()[0, 0])
        raise ValueError(
            f"coords[{row}] = {coords[row].tolist()} is outside batch_size {batch_size}, "
            f"spatial_shape {shape}"
        )
    keys, cell = torch.unique(pack_keys(coords, shape), return_inverse=True)
    number = torch.arange(coords.shape[0], device=coords.device)
    last = number.new_zeros(keys.numel()).scatter_reduce(
        0, cell, number, "amax", include_self=False
    )
    flat = torch.zeros(batch_size * volume, channels, dtype=features.dtype, device=features.device)
    flat = flat.index_copy(0, keys, features.index_select(0, last))
    return flat.reshape(batch_size, *shape, channels).movedim(-1, 1).contiguous()


@in_float32
def dense_to_sparse(dense: Tensor, threshold: float = 0.0) -> tuple[Tensor, Tensor]:
    """(coords int32 `[M, 1+D]`, canonical; features `[M, C]`) of a dense tensor's active cells.

    dense `[B, C, *spatial_shape]`. A cell is active iff any channel's |value| > threshold or is
    NaN. Raises ValueError unless D is 1 to 4.
    """
    if not 3 <= dense.dim() <= 6:
        raise ValueError(
            f"dense: expected shape [B, C, *spatial_shape] with 1 to 4 axes, got "
            f"{list(dense.shape)}"
        )
    active = ((dense.abs() > threshold) | dense.isnan()).any(dim=1)
    return active.nonzero().int(), dense.movedim(1, -1)[active]


@in_float32
def sparse_union(
    coords_a: Tensor, features_a: Tensor, coords_b: Tensor, features_b: Tensor, mode: str
) -> tuple[Tensor, Tensor]:
    """(coords int32 `[M, 1+D]`, features `[M, C]`) of the sites of a or b, canonical.

    coords_a, coords_b: canonical int32. A missing side contributes zeros; `mode="sum"` adds (equal
    channel counts), `"concat"` puts a's channels before b's. Raises ValueError otherwise.
    """
    check_mode(mode, ("sum", "concat"))
    axes = check_coords(coords_a, name="coords_a")
    check_coords(coords_b, axes, "coords_b")
    check_rows(features_a, coords_a.shape[0], "features_a")
    check_rows(features_b, coords_b.shape[0], "features_b")
    channels_a, channels_b = features_a.shape[1], features_b.shape[1]
    if mode == "sum" and channels_a != channels_b:
        raise ValueError(f"mode sum: channel counts {channels_a} and {channels_b} differ")
    rows_a, both = coords_a.shape[0], torch.cat([coords_a, coords_b])
    group, first = group_rows(both)
    for name, part in (("coords_a", group[:rows_a]), ("coords_b", group[rows_a:])):
        if bool((part[1:] <= part[:-1]).any()):
            raise ValueError(f"{name}: rows are not in canonical order")
    zeros_a = features_a.new_zeros(first.numel(), channels_a)
    zeros_b = features_b.new_zeros(first.numel(), channels_b)
    side_a = zeros_a.index_copy(0, group[:rows_a], features_a)
    side_b = zeros_b.index_copy(0, group[rows_a:], features_b)
    merged = side_a + side_b if mode == "sum" else torch.cat([side_a, side_b], dim=1)
    return both[first], merged
