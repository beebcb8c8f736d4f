# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""The sites of sparse tensors and the rulebooks made from them, in the tensors' own row order."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from voxgate_ops import torch_ops
from voxgate_ops.reference import ConvGeometry


class SiteSet:
    """Rows of coords and the rulebooks built from them so far.

    One object is shared by all tensors on the same sites, which is what lets layers share
    rulebooks, with or without an `indice_key`. The operators need canonical order; a tensor may
    have any. So the sites are sorted once and every rulebook is renumbered to the tensor's rows:
    features are never moved, and a row's sum runs in the same order whatever row it is.

    While torch.export traces, sites are taken to be canonical: the exported graph sorts its input.
    """

    def __init__(self, indices: Tensor, *, canonical: bool = False) -> None:
        """indices: int32 `[N, 1+D]`, unique, in any order unless `canonical`."""
        self.indices = indices
        self._canonical: Tensor | None = indices if canonical else None
        self._order: Tensor | None = None  # canonical row j is row _order[j]; None: they are equal
        self._rank: Tensor | None = None
        self._submanifold: dict[object, Tensor] = {}
        self._sparse: dict[object, tuple[SiteSet, Tensor]] = {}

    def _sort(self, spatial_shape: Sequence[int]) -> Tensor:
        if self._canonical is None and torch.compiler.is_compiling():
            self._canonical = self.indices
        if self._canonical is None:
            coords, order, rank = torch_ops.call("sort_sites", self.indices, spatial_shape, "error")
            if torch.equal(order, torch.arange(order.numel(), device=order.device)):
                self._canonical = self.indices
            else:
                self._canonical, self._order, self._rank = coords, order, rank
        return self._canonical

    def canonical_rows(self, rows: Tensor, spatial_shape: Sequence[int]) -> tuple[Tensor, Tensor]:
        """(canonical coords, `rows` in their order) of a tensor with one row per site."""
        coords = self._sort(spatial_shape)
        return coords, rows if self._order is None else rows.index_select(0, self._order)

    def _to_own_rows(self, neighbors: Tensor) -> Tensor:
        """Renumbers the input rows of a rulebook from canonical rows to this set's."""
        if self._order is None:
            return neighbors
        row = torch.cat([self._order, self._order.new_full((1,), -1)]).to(neighbors.dtype)
        return row[neighbors.long()]  # -1 picks the last entry, which is -1

    def submanifold(self, spatial_shape: list[int], geometry: ConvGeometry) -> Tensor:
        """neighbors `[K, N]`: outputs and inputs are this set's rows."""
        key = (tuple(spatial_shape), geometry.kernel_size, geometry.dilation)
        if key not in self._submanifold:
            coords = self._sort(spatial_shape)
            neighbors = torch_ops.call(
                "submanifold_rulebook",
                coords,
                spatial_shape,
                list(geometry.kernel_size),
                list(geometry.dilation),
            )
            if self._rank is not None:
                neighbors = self._to_own_rows(neighbors.index_select(1, self._rank))
            self._submanifold[key] = neighbors
        return self._submanifold[key]

    def sparse(self, spatial_shape: list[int], geometry: ConvGeometry) -> tuple[SiteSet, Tensor]:
        """(output sites, canonical; neighbors `[K, M]`: inputs are this set's rows)."""
        key = (tuple(spatial_shape), geometry)
        if key not in self._sparse:
            coords = self._sort(spatial_shape)
            out_coords, neighbors = torch_ops.call(
                "sparse_rulebook",
                coords,
                spatial_shape,
                list(geometry.kernel_size),
                list(geometry.stride),
                list(geometry.padding),
                list(geometry.dilation),
                geometry.transposed,
                list(geometry.output_padding) if geometry.transposed else None,
                None,
            )
            self._sparse[key] = SiteSet(out_coords, canonical=True), self._to_own_rows(neighbors)
        return self._sparse[key]
