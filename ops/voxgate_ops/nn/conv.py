# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Sparse convolutions with spconv's names and constructor signatures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from voxgate_ops import torch_ops
from voxgate_ops.nn.core import ConvAlgo, SparseConvTensor
from voxgate_ops.nn.modules import SparseModule
from voxgate_ops.nn.rulebooks import RulebookLayer

IntOrInts = int | Sequence[int]

# spconv's `tv.gemm.Activation` members (and the operator's own names) -> the operator's names.
_ACTIVATIONS = {
    "none": "none",
    "none_": "none",
    "relu": "relu",
    "leakyrelu": "leaky_relu",
    "leaky_relu": "leaky_relu",
    "sigmoid": "sigmoid",
    "silu": "silu",
    "gelu": "gelu",
}
_VOXEL_COUNT = "max_num_voxels_during_training"


def _activation_name(act_type: Any) -> str:
    if act_type is None:
        return "none"
    name = str(getattr(act_type, "name", act_type)).rsplit(".", maxsplit=1)[-1]
    if name.lower() not in _ACTIVATIONS:
        raise ValueError(f"act_type {name!r}: expected one of {', '.join(sorted(_ACTIVATIONS))}")
    return _ACTIVATIONS[name.lower()]


class SparseConvolution(RulebookLayer, SparseModule):
    """Any sparse convolution; the numbered classes below fix what kind and how many axes.

    Args:
        ndim: spatial axes, 1 to 4. kernel_size, stride, padding, dilation and output_padding are
            an int or one per axis.
        groups: divides both channel counts; weight is `[O, *kernel_size, I / groups]`.
        subm: submanifold: outputs are the input's sites in the input's row order; odd kernels;
            stride and padding are ignored, as spconv ignores them.
        inverse: runs the convolution that holds the same `indice_key` backwards.
        indice_key: submanifold layers with the same key share a rulebook (sharing happens without
            one too); a regular layer's rulebook waits under its key for the inverse layer.
        record_voxel_count: keeps the largest number of output sites seen in the buffer
            `max_num_voxels_during_training`.
        act_type: activation after bias and `add_input`: None, a name, or spconv's enum.
        act_alpha: slope of leaky ReLU.

    A kernel of one cell that keeps its sites reads its weight as spconv does: see operator_weight.
    `algo`, `fp32_accum`, `large_kernel_fast_algo` and `act_beta` are accepted for compatibility.
    Raises ValueError for arguments that do not fit.
    """

    def __init__(
        self,
        ndim: int,
        in_channels: int,
        out_channels: int,
        kernel_size: IntOrInts = 3,
        stride: IntOrInts = 1,
        padding: IntOrInts = 0,
        dilation: IntOrInts = 1,
        groups: int = 1,
        bias: bool = True,
        subm: bool = False,
        output_padding: IntOrInts = 0,
        transposed: bool = False,
        inverse: bool = False,
        indice_key: str | None = None,
        algo: ConvAlgo | None = None,
        fp32_accum: bool | None = None,
        record_voxel_count: bool = False,
        act_type: Any = None,
        act_alpha: float = 0,
        act_beta: float = 0,
        large_kernel_fast_algo: bool = False,
        name: str | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        SparseModule.__init__(self, name=name)
        self.set_geometry(
            ndim, kernel_size, stride, padding, dilation, output_padding, transposed, subm
        )
        if groups < 1 or in_channels % groups or out_channels % groups:
            raise ValueError(
                f"groups {groups} must divide in_channels {in_channels} and out_channels "
                f"{out_channels}"
            )
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.groups = groups
        self.inverse = inverse
        self.indice_key = indice_key
        self.algo = algo
        self.fp32_accum = fp32_accum
        self.record_voxel_count = record_voxel_count
        self.act_type = act_type
        self.act_alpha = act_alpha
        self.act_beta = act_beta
        self._activation = _activation_name(act_type)
        if self._counts_voxels:
            self.register_buffer(_VOXEL_COUNT, torch.zeros(1, dtype=torch.int32, device=device))
        shape = (out_channels, *self.kernel_size, in_channels // groups)
        self.weight = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
        self.bias = (
            nn.Parameter(torch.empty(out_channels, device=device, dtype=dtype)) if bias else None
        )
        self.reset_parameters()

    @property
    def _counts_voxels(self) -> bool:
        return self.record_voxel_count and not self.subm and not self.inverse

    def reset_parameters(self) -> None:
        """Kaiming uniform with a = sqrt(5), as torch's convolutions and spconv's."""
        fan_in = self.in_channels // self.groups * math.prod(self.kernel_size)
        bound = 1 / math.sqrt(fan_in) if fan_in else 0.0
        nn.init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            nn.init.uniform_(self.bias, -bound, bound)

    def is_inverseable(self) -> bool:
        """Whether an inverse convolution can pair with this layer."""
        return self.indice_key is not None and not self.subm

    def get_max_num_voxels(self) -> Tensor | None:
        """int32 `[1]`, the largest number of output sites seen, if `record_voxel_count`."""
        return getattr(self, _VOXEL_COUNT, None)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        # Checkpoints from before the layer counted have no count.
        if self._counts_voxels:
            state_dict.setdefault(prefix + _VOXEL_COUNT, torch.zeros(1, dtype=torch.int32))
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _is_product(self) -> bool:
        """Whether spconv computes this layer as one matrix product (kernel of one cell)."""
        plain = self.groups == 1 and not self.inverse
        return plain and math.prod(self.kernel_size) == 1 and self.keeps_sites()

    def operator_weight(self) -> Tensor:
        """The weight as the operator takes it: `[K, I / groups, O]`.

        It is the transposed KRSC weight, except where spconv 2.3 computes `features @
        weight.view(I, O)` (a kernel of one cell that keeps its sites): there its checkpoints hold
        `[I, O]` in the memory of `[O, 1, …, I]`, and so does this layer.
        """
        if self._is_product():
            return self.weight.reshape(1, self.in_channels, self.out_channels)
        return self.weight.flatten(1, -2).permute(1, 2, 0)

    @torch.no_grad()
    def set_operator_weight(self, weight: Tensor) -> None:
        """Copies a weight `[K, I / groups, O]` into the layer; ValueError for another shape."""
        expected = [math.prod(self.kernel_size), self.in_channels // self.groups, self.out_channels]
        if list(weight.shape) != expected:
            raise ValueError(f"weight: expected shape {expected}, got {list(weight.shape)}")
        if not self._is_product():
            weight = weight.permute(2, 0, 1)
        self.weight.copy_(weight.reshape(self.weight.shape))

    def forward(
        self, input: SparseConvTensor, add_input: SparseConvTensor | None = None
    ) -> SparseConvTensor:
        """act(convolution + bias + add_input), where `add_input` lies on the output's sites."""
        if input.features.shape[1] != self.in_channels:
            raise ValueError(
                f"features have {input.features.shape[1]} channels, this layer expects "
                f"{self.in_channels}"
            )
        found = self.inverse_rulebook(input) if self.inverse else self.rulebook(input)
        features = torch_ops.call(
            "sparse_conv",
            input.features,
            found.neighbors,
            self.operator_weight(),
            self.bias,
            None if add_input is None else add_input.features,
            self.groups,
            self._activation,
            float(self.act_alpha),
        )
        if self._counts_voxels and not torch.compiler.is_compiling():
            getattr(self, _VOXEL_COUNT).clamp_(min=features.shape[0])
        return input.derive(features, found.sites, found.spatial_shape, found.indice_dict)

    def extra_repr(self) -> str:
        parts = [f"{self.in_channels}, {self.out_channels}", self.geometry_repr()]
        if self.groups != 1:
            parts.append(f"groups={self.groups}")
        if self.bias is None:
            parts.append("bias=False")
        if self.indice_key is not None:
            parts.append(f"indice_key={self.indice_key!r}")
        if self._activation != "none":
            parts.append(f"act={self._activation}")
        return ", ".join(parts)


class _Regular(SparseConvolution):
    _ndim: ClassVar[int]

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: IntOrInts,
        stride: IntOrInts = 1,
        padding: IntOrInts = 0,
        dilation: IntOrInts = 1,
        groups: int = 1,
        bias: bool = True,
        indice_key: str | None = None,
        algo: ConvAlgo | None = None,
        fp32_accum: bool | None = None,
        record_voxel_count: bool = False,
        large_kernel_fast_algo: bool = False,
        name: str | None = None,
    ) -> None:
        super().__init__(
            self._ndim,
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            groups,
            bias,
            indice_key=indice_key,
            algo=algo,
            fp32_accum=fp32_accum,
            record_voxel_count=record_voxel_count,
            large_kernel_fast_algo=large_kernel_fast_algo,
            name=name,
        )


class SparseConv1d(_Regular):
    """Regular convolution over 1 axis."""

    _ndim = 1


class SparseConv2d(_Regular):
    """Regular convolution over 2 axes."""

    _ndim = 2


class SparseConv3d(_Regular):
    """Regular convolution over 3 axes."""

    _ndim = 3


class SparseConv4d(_Regular):
    """Regular convolution over 4 axes."""

    _ndim = 4


class _Transposed(SparseConvolution):
    _ndim: ClassVar[int]

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: IntOrInts,
        stride: IntOrInts = 1,
        padding: IntOrInts = 0,
        dilation: IntOrInts = 1,
        groups: int = 1,
        bias: bool = True,
        indice_key: str | None = None,
        algo: ConvAlgo | None = None,
        fp32_accum: bool | None = None,
        record_voxel_count: bool = False,
        large_kernel_fast_algo: bool = False,
        name: str | None = None,
        *,
        output_padding: IntOrInts = 0,
    ) -> None:
        super().__init__(
            self._ndim,
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            groups,
            bias,
            output_padding=output_padding,
            transposed=True,
            indice_key=indice_key,
            algo=algo,
            fp32_accum=fp32_accum,
            record_voxel_count=record_voxel_count,
            large_kernel_fast_algo=large_kernel_fast_algo,
            name=name,
        )


class SparseConvTranspose1d(_Transposed):
    """Transposed (generative) convolution over 1 axis."""

    _ndim = 1


class SparseConvTranspose2d(_Transposed):
    """Transposed (generative) convolution over 2 axes."""

    _ndim = 2


class SparseConvTranspose3d(_Transposed):
    """Transposed (generative) convolution over 3 axes."""

    _ndim = 3


class SparseConvTranspose4d(_Transposed):
    """Transposed (generative) convolution over 4 axes."""

    _ndim = 4


class _Inverse(SparseConvolution):
    _ndim: ClassVar[int]

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: IntOrInts,
        indice_key: str,
        bias: bool = True,
        algo: ConvAlgo | None = None,
        fp32_accum: bool | None = None,
        large_kernel_fast_algo: bool = False,
        name: str | None = None,
    ) -> None:
        super().__init__(
            self._ndim,
            in_channels,
            out_channels,
            kernel_size,
            bias=bias,
            inverse=True,
            indice_key=indice_key,
            algo=algo,
            fp32_accum=fp32_accum,
            large_kernel_fast_algo=large_kernel_fast_algo,
            name=name,
        )


class SparseInverseConv1d(_Inverse):
    """Inverse of the 1-D layer with the same indice_key, back to its input sites."""

    _ndim = 1


class SparseInverseConv2d(_Inverse):
    """Inverse of the 2-D layer with the same indice_key, back to its input sites."""

    _ndim = 2


class SparseInverseConv3d(_Inverse):
    """Inverse of the 3-D layer with the same indice_key, back to its input sites."""

    _ndim = 3


class SparseInverseConv4d(_Inverse):
    """Inverse of the 4-D layer with the same indice_key, back to its input sites."""

    _ndim = 4


class _Submanifold(SparseConvolution):
    _ndim: ClassVar[int]

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: IntOrInts,
        stride: IntOrInts = 1,
        padding: IntOrInts = 0,
        dilation: IntOrInts = 1,
        groups: int = 1,
        bias: bool = True,
        indice_key: str | None = None,
        algo: ConvAlgo | None = None,
        fp32_accum: bool | None = None,
        large_kernel_fast_algo: bool = False,
        name: str | None = None,
    ) -> None:
        super().__init__(
            self._ndim,
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            groups,
            bias,
            subm=True,
            indice_key=indice_key,
            algo=algo,
            fp32_accum=fp32_accum,
            large_kernel_fast_algo=large_kernel_fast_algo,
            name=name,
        )


class SubMConv1d(_Submanifold):
    """Submanifold convolution over 1 axis."""

    _ndim = 1


class SubMConv2d(_Submanifold):
    """Submanifold convolution over 2 axes."""

    _ndim = 2


class SubMConv3d(_Submanifold):
    """Submanifold convolution over 3 axes."""

    _ndim = 3


class SubMConv4d(_Submanifold):
    """Submanifold convolution over 4 axes."""

    _ndim = 4
