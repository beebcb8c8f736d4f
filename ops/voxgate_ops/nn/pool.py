# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Pooling over active inputs, with spconv's names and constructor signatures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from voxgate_ops import torch_ops
from voxgate_ops.nn.core import ConvAlgo, SparseConvTensor
from voxgate_ops.nn.modules import SparseModule
from voxgate_ops.nn.rulebooks import RulebookLayer

IntOrInts = int | Sequence[int]
_VOXEL_COUNT = "max_num_voxels_during_training"


class _SparsePool(RulebookLayer, SparseModule):
    """Pooling of any number of axes.

    Args:
        ndim: spatial axes, 1 to 4; per-axis arguments are an int or one per axis.
        stride: None means kernel_size.
        indice_key: keeps the rulebook for an inverse convolution.
        subm: outputs are the input's sites.

    `algo` is accepted for compatibility. Raises ValueError for arguments that do not fit.
    """

    _mode: ClassVar[str]

    def __init__(
        self,
        ndim: int,
        kernel_size: IntOrInts = 3,
        stride: IntOrInts | None = 1,
        padding: IntOrInts = 0,
        dilation: IntOrInts = 1,
        indice_key: str | None = None,
        subm: bool = False,
        algo: ConvAlgo | None = None,
        record_voxel_count: bool = False,
        name: str | None = None,
    ) -> None:
        SparseModule.__init__(self, name=name)
        step = kernel_size if stride is None else stride
        self.set_geometry(ndim, kernel_size, step, padding, dilation, 0, False, subm)
        self.indice_key = indice_key
        self.algo = algo
        if record_voxel_count and not subm:
            self.register_buffer(_VOXEL_COUNT, torch.zeros(1, dtype=torch.int32))

    def forward(self, input: SparseConvTensor) -> SparseConvTensor:
        found = self.rulebook(input)
        features = torch_ops.call("sparse_pool", input.features, found.neighbors, self._mode)
        count = getattr(self, _VOXEL_COUNT, None)
        if count is not None and not torch.compiler.is_compiling():
            count.clamp_(min=features.shape[0])
        return input.derive(features, found.sites, found.spatial_shape, found.indice_dict)

    def extra_repr(self) -> str:
        return self.geometry_repr()


class SparseMaxPool(_SparsePool):
    """The largest active input per channel."""

    _mode = "max"


class SparseAvgPool(_SparsePool):
    """The mean of the active inputs (their count, not the kernel volume)."""

    _mode = "avg"


class _NumberedPool(_SparsePool):
    _ndim: ClassVar[int]

    def __init__(
        self,
        kernel_size: IntOrInts,
        stride: IntOrInts | None = None,
        padding: IntOrInts = 0,
        dilation: IntOrInts = 1,
        indice_key: str | None = None,
        algo: ConvAlgo | None = None,
        record_voxel_count: bool = False,
        name: str | None = None,
    ) -> None:
        super().__init__(
            self._ndim,
            kernel_size,
            stride,
            padding,
            dilation,
            indice_key=indice_key,
            algo=algo,
            record_voxel_count=record_voxel_count,
            name=name,
        )


class SparseMaxPool1d(_NumberedPool, SparseMaxPool):
    """Max pooling over 1 axis."""

    _ndim = 1


class SparseMaxPool2d(_NumberedPool, SparseMaxPool):
    """Max pooling over 2 axes."""

    _ndim = 2


class SparseMaxPool3d(_NumberedPool, SparseMaxPool):
    """Max pooling over 3 axes."""

    _ndim = 3


class SparseMaxPool4d(_NumberedPool, SparseMaxPool):
    """Max pooling over 4 axes."""

    _ndim = 4


class SparseAvgPool1d(_NumberedPool, SparseAvgPool):
    """Average pooling over 1 axis."""

    _ndim = 1


class SparseAvgPool2d(_NumberedPool, SparseAvgPool):
    """Average pooling over 2 axes."""

    _ndim = 2


class SparseAvgPool3d(_NumberedPool, SparseAvgPool):
    """Average pooling over 3 axes."""

    _ndim = 3


class SparseAvgPool4d(_NumberedPool, SparseAvgPool):
    """Average pooling over 4 axes."""

    _ndim = 4


class _GlobalPool(SparseModule):
    _mode: ClassVar[str]

    def __init__(self, name: str | None = None) -> None:
        super().__init__(name=name)

    def forward(self, x: SparseConvTensor) -> Tensor:
        """`[batch_size, C]`; a frame without sites is 0."""
        coords, features = x.sites.canonical_rows(x.features, x.spatial_shape)
        out: Tensor = torch_ops.call(
            "sparse_global_pool", features, coords, x.batch_size, self._mode
        )
        return out


class SparseGlobalMaxPool(_GlobalPool):
    """The largest value of each frame per channel."""

    _mode = "max"


class SparseGlobalAvgPool(_GlobalPool):
    """The mean of each frame per channel (spconv 2.3 gives only the first channel's)."""

    _mode = "avg"
