# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""How a layer finds its rulebook: from its geometry, its input's sites and its `indice_key`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from voxgate_ops.nn.core import IndiceData, SparseConvTensor, expand_nd
from voxgate_ops.nn.sites import SiteSet
from voxgate_ops.reference import ConvGeometry, submanifold_geometry


@dataclass(frozen=True)
class FoundRulebook:
    """A rulebook, the sites and grid of its outputs, and the rulebooks known after it."""

    neighbors: Tensor
    sites: SiteSet
    spatial_shape: list[int]
    indice_dict: dict[str, IndiceData]


class RulebookLayer:
    """Mixed into the convolution and pooling layers."""

    indice_key: str | None

    def set_geometry(
        self,
        ndim: int,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int],
        padding: int | Sequence[int],
        dilation: int | Sequence[int],
        output_padding: int | Sequence[int],
        transposed: bool,
        subm: bool,
    ) -> None:
        """Expands per-axis values; ValueError for values out of range and even `subm` kernels."""
        if not 1 <= ndim <= 4:
            raise ValueError(f"ndim {ndim}: expected 1 to 4")
        self.ndim = ndim
        self.kernel_size = expand_nd(ndim, kernel_size, "kernel_size")
        self.stride = expand_nd(ndim, stride, "stride")
        self.padding = expand_nd(ndim, padding, "padding")
        self.dilation = expand_nd(ndim, dilation, "dilation")
        self.output_padding = expand_nd(ndim, output_padding, "output_padding")
        self.transposed = transposed
        self.subm = subm
        self.geometry()  # refuses values out of range now, not at the first forward

    def geometry(self) -> ConvGeometry:
        """The layer's parameters per axis; ValueError for values out of range."""
        if self.subm:
            return submanifold_geometry(self.kernel_size, self.dilation)
        return ConvGeometry(
            tuple(self.kernel_size),
            tuple(self.stride),
            tuple(self.padding),
            tuple(self.dilation),
            tuple(self.output_padding),
            self.transposed,
        )

    def keeps_sites(self) -> bool:
        """A kernel of one cell with stride 1 maps every site to itself, in the input's order."""
        moves = [*self.padding, *self.output_padding]
        return self.subm or (
            all(size == 1 for size in [*self.kernel_size, *self.stride]) and not any(moves)
        )

    def _check_axes(self, input: SparseConvTensor) -> None:
        if len(input.spatial_shape) != self.ndim:
            raise ValueError(
                f"spatial_shape {input.spatial_shape} has {len(input.spatial_shape)} axes, this "
                f"layer has {self.ndim}"
            )

    def rulebook(self, input: SparseConvTensor) -> FoundRulebook:
        """The rulebook of a submanifold, regular or transposed layer; kept under `indice_key`.

        Raises ValueError when the key holds another kind of rulebook or other sites.
        """
        self._check_axes(input)
        shape, geometry = input.spatial_shape, self.geometry()
        known = input.find_indice_pair(self.indice_key)
        if known is not None and self.subm:
            self._check_reuse(input, known)
            return FoundRulebook(known.neighbors, known.out_sites, shape, input.indice_dict)
        sites = input.sites
        if self.keeps_sites():
            neighbors, out_sites, out_shape = sites.submanifold(shape, geometry), sites, shape
        else:
            out_shape = geometry.output_shape(shape)
            out_sites, neighbors = sites.sparse(shape, geometry)
        indice_dict = input.indice_dict
        if self.indice_key is not None and not (known is not None and self.keeps_sites()):
            if known is not None:
                raise ValueError(f"indice_key {self.indice_key!r} is taken by an earlier layer")
            data = IndiceData(sites, out_sites, neighbors, shape, out_shape, geometry, self.subm)
            indice_dict = {**indice_dict, self.indice_key: data}
        return FoundRulebook(neighbors, out_sites, out_shape, indice_dict)

    def _check_reuse(self, input: SparseConvTensor, known: IndiceData) -> None:
        if not known.is_subm:
            raise ValueError(
                f"indice_key {self.indice_key!r} belongs to a layer that is not submanifold"
            )
        if (known.ksize, known.dilation) != (self.kernel_size, self.dilation):
            raise ValueError(
                f"indice_key {self.indice_key!r}: kernel_size {self.kernel_size}, dilation "
                f"{self.dilation} differ from the first layer's {known.ksize}, {known.dilation}"
            )
        self._check_sites(input, known.out_sites, known.out_spatial_shape)

    def _check_sites(self, input: SparseConvTensor, sites: SiteSet, shape: list[int]) -> None:
        if input.spatial_shape != shape:
            raise ValueError(
                f"indice_key {self.indice_key!r}: spatial_shape {input.spatial_shape} differs from "
                f"the first layer's {shape}"
            )
        if input.sites is sites or torch.compiler.is_compiling():
            return
        if input.indices.shape != sites.indices.shape:
            raise ValueError(
                f"indice_key {self.indice_key!r}: {input.indices.shape[0]} sites, the first layer "
                f"left {sites.indices.shape[0]}"
            )
        if not torch.equal(input.indices, sites.indices):
            raise ValueError(
                f"indice_key {self.indice_key!r}: the sites differ from those the first layer left"
            )

    def inverse_rulebook(self, input: SparseConvTensor) -> FoundRulebook:
        """The rulebook under `indice_key` with its roles swapped.

        Raises ValueError when there is none, when it is submanifold, or does not fit the input.
        """
        self._check_axes(input)
        known = input.find_indice_pair(self.indice_key)
        if known is None:
            raise ValueError(
                f"an inverse convolution needs the rulebook of the layer it inverts, but "
                f"indice_key {self.indice_key!r} is not among {sorted(input.indice_dict)}; give "
                "the convolution or pooling layer before it the same indice_key"
            )
        if known.is_subm:
            raise ValueError(
                f"indice_key {self.indice_key!r} belongs to a submanifold layer; only regular and "
                "transposed convolutions and pooling have an inverse"
            )
        if known.ksize != self.kernel_size:
            raise ValueError(
                f"indice_key {self.indice_key!r}: kernel_size {self.kernel_size} differs from "
                f"{known.ksize} of the layer it inverts"
            )
        self._check_sites(input, known.out_sites, known.out_spatial_shape)
        neighbors = known.inverse()
        return FoundRulebook(neighbors, known.in_sites, known.spatial_shape, input.indice_dict)

    def geometry_repr(self) -> str:
        parts = [f"kernel_size={self.kernel_size}", f"stride={self.stride}"]
        for name, usual in (("padding", 0), ("dilation", 1), ("output_padding", 0)):
            values = getattr(self, name)
            if any(value != usual for value in values):
                parts.append(f"{name}={values}")
        return ", ".join(parts)
