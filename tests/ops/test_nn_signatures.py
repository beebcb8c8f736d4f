# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Names, constructor arguments and state_dict keys of spconv 2.3, written out."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable

import pytest
import torch

import voxgate_ops.nn as spconv

SUBMANIFOLD = (
    "in_channels out_channels kernel_size stride=1 padding=0 dilation=1 groups=1 bias=True "
    "indice_key=None algo=None fp32_accum=None large_kernel_fast_algo=False name=None"
)
REGULAR = (
    "in_channels out_channels kernel_size stride=1 padding=0 dilation=1 groups=1 bias=True "
    "indice_key=None algo=None fp32_accum=None record_voxel_count=False "
    "large_kernel_fast_algo=False name=None"
)
INVERSE = (
    "in_channels out_channels kernel_size indice_key bias=True algo=None fp32_accum=None "
    "large_kernel_fast_algo=False name=None"
)
POOL = (
    "kernel_size stride=None padding=0 dilation=1 indice_key=None algo=None "
    "record_voxel_count=False name=None"
)
TENSOR = (
    "features indices spatial_shape batch_size grid=None voxel_num=None indice_dict=None "
    "benchmark=False permanent_thrust_allocator=False enable_timer=False force_algo=None"
)
CONVOLUTION = (
    "ndim in_channels out_channels kernel_size=3 stride=1 padding=0 dilation=1 groups=1 bias=True "
    "subm=False output_padding=0 transposed=False inverse=False indice_key=None algo=None "
    "fp32_accum=None record_voxel_count=False act_type=None act_alpha=0 act_beta=0 "
    "large_kernel_fast_algo=False name=None device=None dtype=None"
)
SIGNATURES = {
    **{f"SubMConv{n}d": SUBMANIFOLD for n in range(1, 5)},
    **{f"SparseConv{n}d": REGULAR for n in range(1, 5)},
    **{f"SparseConvTranspose{n}d": REGULAR for n in range(1, 5)},
    **{f"SparseInverseConv{n}d": INVERSE for n in range(1, 5)},
    **{f"SparseMaxPool{n}d": POOL for n in range(1, 5)},
    **{f"SparseAvgPool{n}d": POOL for n in range(1, 5)},
    "SparseGlobalMaxPool": "name=None",
    "SparseGlobalAvgPool": "name=None",
    "SparseConvTensor": TENSOR,
    "SparseConvolution": CONVOLUTION,
}


def positional(cls: type) -> str:
    parts = []
    for parameter in inspect.signature(cls).parameters.values():
        if parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD:
            default = parameter.default
            empty = default is inspect.Parameter.empty
            parts.append(parameter.name if empty else f"{parameter.name}={default}")
    return " ".join(parts)


@pytest.mark.parametrize("name", sorted(SIGNATURES))
def test_constructor(name: str) -> None:
    assert positional(getattr(spconv, name)) == SIGNATURES[name]


def test_other_names() -> None:
    names = (
        "SparseModule SparseSequential ToDense RemoveGrid Identity SparseBatchNorm SparseReLU "
        "SparseIdentity AddTable ConcatTable JoinTable ConvAlgo assign_name_for_sparse_modules"
    )
    assert [name for name in names.split() if not hasattr(spconv, name)] == []


@pytest.mark.parametrize("ndim", range(1, 5))
@pytest.mark.parametrize("kind", ["SubMConv", "SparseConv", "SparseConvTranspose"])
def test_weight_layout(kind: str, ndim: int) -> None:
    """KRSC: [O, *kernel_size, I]."""
    kernel_size = [3, 1, 5, 3][:ndim]
    layer = getattr(spconv, f"{kind}{ndim}d")(6, 4, kernel_size, bias=ndim % 2 == 1)
    shapes = {key: list(value.shape) for key, value in layer.state_dict().items()}
    expected = {"weight": [4, *kernel_size, 6]}
    assert shapes == (expected | {"bias": [4]} if ndim % 2 else expected)


def test_grouped_weight_layout() -> None:
    assert list(spconv.SubMConv2d(6, 4, 3, groups=2).weight.shape) == [4, 3, 3, 3]


def test_initial_weights_are_kaiming_uniform() -> None:
    """Within 1 / sqrt(fan_in) and filling that range, bias too."""
    torch.manual_seed(0)
    layer = spconv.SparseConv3d(16, 32, 3)
    bound = (16 * 27) ** -0.5
    assert layer.weight.abs().max() <= bound
    assert layer.weight.abs().max() > 0.99 * bound
    assert layer.weight.detach().mean().abs() < 0.02 * bound
    assert layer.bias is not None
    assert 0.5 * bound < layer.bias.abs().max() <= bound


def test_voxel_counts_in_checkpoints() -> None:
    """The buffer has spconv's name; checkpoints without it still load."""
    layer = spconv.SparseConv2d(2, 3, 3, record_voxel_count=True)
    assert "max_num_voxels_during_training" in layer.state_dict()
    older = {k: v for k, v in layer.state_dict().items() if k in ("weight", "bias")}
    layer.load_state_dict(older)
    counted = layer.get_max_num_voxels()
    assert counted is not None
    assert counted.tolist() == [0]
    assert spconv.SubMConv2d(2, 3, 3).get_max_num_voxels() is None


@pytest.mark.parametrize(
    ("build", "part"),
    [
        (lambda: spconv.SubMConv2d(1, 1, [3, 2]), "odd"),
        (lambda: spconv.SparseConv2d(1, 1, [3, 3, 3]), "kernel_size [3, 3, 3]"),
        (lambda: spconv.SparseConv2d(1, 1, 3, stride=0), "stride"),
        (lambda: spconv.SparseConv2d(1, 1, 3, padding=-1), "padding"),
        (lambda: spconv.SparseConv2d(3, 4, 3, groups=2), "groups 2"),
        (lambda: spconv.SparseConvTranspose2d(1, 1, 3, 2, output_padding=2), "output_padding"),
        (lambda: spconv.SparseConvolution(5, 1, 1), "ndim 5"),
        (lambda: spconv.SparseConvolution(2, 1, 1, act_type="tanh"), "tanh"),
    ],
)
def test_refused_arguments(build: Callable[[], object], part: str) -> None:
    with pytest.raises(ValueError, match=re.escape(part)):
        build()
