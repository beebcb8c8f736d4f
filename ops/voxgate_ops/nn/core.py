# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""SparseConvTensor: features on sites, and the rulebooks found on the way to it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

import torch
from torch import Tensor

from voxgate_ops import torch_ops
from voxgate_ops.nn.sites import SiteSet
from voxgate_ops.reference import ConvGeometry


class ConvAlgo(Enum):
    """Accepted wherever spconv takes one; every choice computes the same here."""

    Native = 0
    MaskImplicitGemm = 1
    MaskSplitImplicitGemm = 2


def expand_nd(ndim: int, value: int | Sequence[int], name: str = "value") -> list[int]:
    """One int per axis from an int or a sequence of `ndim` ints; ValueError for another length."""
    values = [value] * ndim if isinstance(value, int) else [int(v) for v in value]
    if len(values) != ndim:
        raise ValueError(f"{name} {values}: expected {ndim} values, got {len(values)}")
    return values


class IndiceData:
    """What a layer leaves under its `indice_key`: its rulebook and the sites at both ends."""

    def __init__(
        self,
        in_sites: SiteSet,
        out_sites: SiteSet,
        neighbors: Tensor,
        spatial_shape: list[int],
        out_spatial_shape: list[int],
        geometry: ConvGeometry,
        is_subm: bool,
    ) -> None:
        self.in_sites = in_sites
        self.out_sites = out_sites
        self.neighbors = neighbors
        self.spatial_shape = spatial_shape
        self.out_spatial_shape = out_spatial_shape
        self.geometry = geometry
        self.is_subm = is_subm
        self._inverse: Tensor | None = None

    @property
    def indices(self) -> Tensor:
        """Input sites, int32 `[N, 1+D]`."""
        return self.in_sites.indices

    @property
    def out_indices(self) -> Tensor:
        """Output sites, int32 `[M, 1+D]`."""
        return self.out_sites.indices

    @property
    def ksize(self) -> list[int]:
        return list(self.geometry.kernel_size)

    @property
    def stride(self) -> list[int]:
        return list(self.geometry.stride)

    @property
    def padding(self) -> list[int]:
        return list(self.geometry.padding)

    @property
    def dilation(self) -> list[int]:
        return list(self.geometry.dilation)

    def inverse(self) -> Tensor:
        """neighbors `[K, N]` from the output sites back to the input sites."""
        if self._inverse is None:
            self._inverse = torch_ops.call("inverse_rulebook", self.neighbors, self.indices)
        return self._inverse


class SparseConvTensor:
    """Features `[N, C]` on N sites of a batch of grids.

    Args:
        features: float `[N, C]`.
        indices: int32 `[N, 1+D]`, batch index first, then the axes of `spatial_shape`; unique, in
            any order. Layers report sites out of range and duplicates.
        spatial_shape: the grid's size per axis.
        batch_size: number of frames.
        indice_dict: rulebooks by `indice_key`; layers fill it.

    The remaining arguments are spconv's; they are kept and change nothing. Raises ValueError for
    shapes that do not fit.
    """

    def __init__(
        self,
        features: Tensor,
        indices: Tensor,
        spatial_shape: Sequence[int],
        batch_size: int,
        grid: Tensor | None = None,
        voxel_num: Tensor | None = None,
        indice_dict: dict[str, IndiceData] | None = None,
        benchmark: bool = False,
        permanent_thrust_allocator: bool = False,
        enable_timer: bool = False,
        force_algo: ConvAlgo | None = None,
    ) -> None:
        self.spatial_shape = [int(size) for size in spatial_shape]
        self.batch_size = batch_size.item() if isinstance(batch_size, Tensor) else batch_size
        _check_tensor(features, indices, self.spatial_shape, self.batch_size)
        self._features = features
        self._sites = SiteSet(indices)
        self.indice_dict: dict[str, IndiceData] = {} if indice_dict is None else indice_dict
        self.grid = grid
        self.voxel_num = voxel_num
        self.benchmark = benchmark
        self.benchmark_record: dict[str, Any] = {}
        self.force_algo = force_algo

    def __repr__(self) -> str:
        return (
            f"SparseConvTensor(features={list(self._features.shape)}, "
            f"spatial_shape={self.spatial_shape}, batch_size={self.batch_size})"
        )

    @property
    def features(self) -> Tensor:
        return self._features

    @features.setter
    def features(self, value: Tensor) -> None:
        raise ValueError("features cannot be set; use x = x.replace_feature(new_features)")

    @property
    def indices(self) -> Tensor:
        return self._sites.indices

    @indices.setter
    def indices(self, value: Tensor) -> None:
        self._sites = SiteSet(value)

    @property
    def sites(self) -> SiteSet:
        return self._sites

    @property
    def spatial_size(self) -> int:
        """Cells of one frame's grid."""
        return math.prod(self.spatial_shape)

    @property
    def sparity(self) -> float:
        """The fraction of the batch's cells that are active (spconv's spelling)."""
        return self.indices.shape[0] / self.spatial_size / self.batch_size

    def find_indice_pair(self, key: str | None) -> IndiceData | None:
        """The rulebook stored under an `indice_key`, None when there is none."""
        return None if key is None else self.indice_dict.get(key)

    def replace_feature(self, feature: Tensor) -> SparseConvTensor:
        """The same sites with other features `[N, C']`; ValueError for another row count."""
        return self.derive(feature)

    def derive(
        self,
        features: Tensor,
        sites: SiteSet | None = None,
        spatial_shape: list[int] | None = None,
        indice_dict: Mapping[str, IndiceData] | None = None,
    ) -> SparseConvTensor:
        """A tensor of the same batch with other features and, where given, other sites."""
        sites = self._sites if sites is None else sites
        shape = self.spatial_shape if spatial_shape is None else spatial_shape
        known = self.indice_dict if indice_dict is None else dict(indice_dict)
        derived = SparseConvTensor(
            features,
            sites.indices,
            shape,
            self.batch_size,
            self.grid,
            self.voxel_num,
            known,
            self.benchmark,
            force_algo=self.force_algo,
        )
        derived._sites = sites
        derived.benchmark_record = self.benchmark_record
        return derived

    def shadow_copy(self) -> SparseConvTensor:
        """A new tensor with every member the same."""
        return self.derive(self._features)

    def select_by_index(self, valid_indices: Tensor) -> SparseConvTensor:
        """The chosen rows only (int64 or bool index, ascending keeps canonical order)."""
        sites = SiteSet(self.indices[valid_indices])
        return self.derive(self._features[valid_indices], sites, indice_dict={})

    def minus(self) -> SparseConvTensor:
        return self.replace_feature(-self._features)

    @classmethod
    def from_dense(cls, x: Tensor) -> SparseConvTensor:
        """The cells with any non-zero channel of a channels-last `[B, *spatial_shape, C]`."""
        coords, features = torch_ops.call("dense_to_sparse", x.movedim(-1, 1), 0.0)
        tensor = cls(features, coords, x.shape[1:-1], x.shape[0])
        tensor._sites = SiteSet(coords, canonical=True)
        return tensor

    def dense(self, channels_first: bool = True) -> Tensor:
        """`[B, C, *spatial_shape]`, or `[B, *spatial_shape, C]`; 0 where no site is."""
        out: Tensor = torch_ops.call(
            "sparse_to_dense", self.indices, self._features, self.batch_size, self.spatial_shape
        )
        return out if channels_first else out.movedim(1, -1).contiguous()

    def __add__(self, other: SparseConvTensor | Tensor) -> SparseConvTensor:
        """Adds the features of a tensor on the same sites, row by row."""
        addend = other.features if isinstance(other, SparseConvTensor) else other
        return self.replace_feature(self._features + addend)

    __radd__ = __add__


def _check_tensor(
    features: Tensor, indices: Tensor, spatial_shape: list[int], batch_size: Any
) -> None:
    if features.dim() != 2:
        raise ValueError(f"features: expected shape [N, C], got {list(features.shape)}")
    if indices.dim() != 2 or indices.shape[1] != 1 + len(spatial_shape):
        raise ValueError(
            f"indices: expected shape [N, {1 + len(spatial_shape)}] for spatial_shape "
            f"{spatial_shape}, got {list(indices.shape)}"
        )
    if indices.dtype != torch.int32:
        raise ValueError(f"indices: expected int32, got {indices.dtype}")
    if torch.compiler.is_compiling():
        return  # sizes are symbols: comparing them would put guards into the graph
    if features.shape[0] != indices.shape[0]:
        raise ValueError(f"features has {features.shape[0]} rows, indices {indices.shape[0]}")
    if batch_size < 1:
        raise ValueError(f"batch_size {batch_size} must be at least 1")
