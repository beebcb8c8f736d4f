# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Every operator and every layer of voxgate_ops.nn through export.

`export_onnx` itself compares the model's outputs with eager torch and raises where they differ, so
a test that exports has compared; what is asserted here is that the operator is in the model.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.ops.checks.networks import SHAPE, Function, export, operators
from torch import Tensor, nn

import voxgate_ops.nn as spconv
from voxgate_ops import schemas
from voxgate_ops.export import translation
from voxgate_ops.torch_ops import call

RANGE, VOXEL = [0.0, 0.0, 0.0, 1.1, 1.0, 0.9], [0.1, 0.1, 0.1]


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def export_counting(
    network: nn.Module, folder: Path, shape: list[int] | None = None
) -> Counter[str]:
    return operators(export(network, folder / "model.onnx", spatial_shape=shape or SHAPE))


def test_every_operator_has_a_translation() -> None:
    names = {operator.name for operator in schemas.OPERATORS}
    assert len(translation.TRANSLATIONS) == len(names)
    camel = {"".join(part.title() for part in key.split("_")) for key in translation.TRANSLATIONS}
    assert camel == names


# --- operators called directly --------------------------------------------------------------------


def find_and_gather(x: spconv.SparseConvTensor) -> Tensor:
    """The features of the site one further along x, 0 where there is none."""
    step = torch.tensor([0, 0, 0, 1], dtype=torch.int32)
    row = call("find_sites", x.indices, x.indices + step)
    gathered: Tensor = call("gather_rows", x.features, row, 0.5)
    return gathered


def reduce(mode: str) -> Callable[..., spconv.SparseConvTensor]:
    def function(x: spconv.SparseConvTensor) -> spconv.SparseConvTensor:
        halved = torch.cat([x.indices[:, :1], x.indices[:, 1:] // 2], dim=1)
        coarse, order, rank = call("sort_sites", halved, [5, 5, 6], "first")
        features = call("reduce_rows", x.features, rank.to(torch.int32), coarse, mode)
        return spconv.SparseConvTensor(features, coarse, [5, 5, 6], x.batch_size)

    return function


def positions(x: spconv.SparseConvTensor) -> Tensor:
    """A point somewhere near every site, x, y, z in metres."""
    return x.indices[:, 1:].flip(1).to(torch.float32) * 0.1 + 0.07 * torch.tanh(x.features[:, :3])


def interpolate(mode: str, anchor: str, normalize: bool) -> Callable[..., Tensor]:
    def function(x: spconv.SparseConvTensor) -> Tensor:
        batch = x.indices[:, 0].contiguous()
        sampled: Tensor = call(
            "sparse_interpolate", x.features, x.indices, positions(x), batch, RANGE, VOXEL,
            mode, anchor, normalize,
        )  # fmt: skip
        return sampled

    return function


def voxelize(reduce: str, max_points: int, max_voxels: int) -> Callable[..., Any]:
    def function(x: spconv.SparseConvTensor) -> dict[str, Any]:
        points = torch.cat([positions(x), x.features], dim=1)
        batch = x.indices[:, 0].contiguous()
        coords, features, voxel = call(
            "voxelize", points, batch, RANGE, [0.2, 0.2, 0.3], reduce, max_points, max_voxels
        )
        # The number of a point's voxel depends on the batch; where that voxel is does not.
        return {
            "voxels": spconv.SparseConvTensor(features, coords, [3, 5, 6], x.batch_size),
            "voxel": call("gather_rows", coords[:, 1:].to(torch.float32), voxel, -1.0),
        }

    return function


def suppress(x: spconv.SparseConvTensor) -> Tensor:
    extent = torch.full_like(x.features[:, :3], 0.3)
    boxes = torch.cat([positions(x), extent, x.features[:, 3:]], dim=1)
    kept = call("rotated_nms", boxes, x.features[:, 0], x.indices[:, 0].contiguous(), 0.2, -0.5, 20)
    mask = torch.zeros_like(x.features[:, 0]).index_fill(0, kept, 1.0)
    return mask * 2.0


def at_given_sites(x: spconv.SparseConvTensor) -> spconv.SparseConvTensor:
    """Max pooling sampled at the input's own sites."""
    coords, neighbors = call(
        "sparse_rulebook", x.indices, SHAPE, [3, 3, 3], [1, 1, 1], [1, 1, 1], [1, 1, 1], False,
        None, x.indices,
    )  # fmt: skip
    pooled = call("sparse_pool", x.features, neighbors, "max")
    return spconv.SparseConvTensor(pooled, coords, SHAPE, x.batch_size)


def unpool(x: spconv.SparseConvTensor) -> Tensor:
    coords, neighbors = call(
        "sparse_rulebook", x.indices, SHAPE, [2, 2, 2], [2, 2, 2], [0, 0, 0], [1, 1, 1]
    )
    pooled = call("sparse_pool", x.features, neighbors, "avg")
    inverse = call("inverse_rulebook", neighbors, x.indices)
    unpooled: Tensor = call("sparse_pool", pooled, inverse, "sum")
    return unpooled


def union(mode: str) -> Callable[..., spconv.SparseConvTensor]:
    def function(x: spconv.SparseConvTensor, conv: nn.Module) -> spconv.SparseConvTensor:
        y = conv(x)
        coords, features = call("sparse_union", x.indices, x.features, y.indices, y.features, mode)
        return spconv.SparseConvTensor(features, coords, SHAPE, x.batch_size)

    return function


def through_dense(x: spconv.SparseConvTensor) -> spconv.SparseConvTensor:
    coords, features = call("dense_to_sparse", x.dense(), 1.5)
    return spconv.SparseConvTensor(features, coords, SHAPE, x.batch_size)


CALLS: list[tuple[str, nn.Module]] = [
    ("FindSites", Function(find_and_gather)),
    *(("ReduceRows", Function(reduce(mode))) for mode in ("sum", "mean", "max", "first")),
    ("SparseInterpolate", Function(interpolate("trilinear", "center", True))),
    ("SparseInterpolate", Function(interpolate("trilinear", "corner", False))),
    ("SparseInterpolate", Function(interpolate("nearest", "center", True))),
    *(("Voxelize", Function(voxelize(mode, 0, 0))) for mode in ("mean", "max", "sum", "first")),
    ("Voxelize", Function(voxelize("mean", 2, 30))),
    ("RotatedNms", Function(suppress)),
    ("SparseRulebook", Function(at_given_sites)),
    ("InverseRulebook", Function(unpool)),
    ("SparseUnion", Function(union("sum"), spconv.SparseConv3d(4, 4, 3, padding=2, dilation=2))),
    ("SparseUnion", Function(union("concat"), spconv.SparseConv3d(4, 6, 3, padding=1))),
    ("DenseToSparse", Function(through_dense)),
]


@pytest.mark.parametrize(
    ("operator", "network"), CALLS, ids=[f"{name}-{i}" for i, (name, _) in enumerate(CALLS)]
)
def test_operators(tmp_path: Path, operator: str, network: nn.Module) -> None:
    assert export_counting(network, tmp_path)[operator] >= 1


# --- layers ---------------------------------------------------------------------------------------

LAYERS: list[tuple[str, nn.Module]] = [
    ("SparsePool", spconv.SparseMaxPool3d(3, 2, 1)),
    ("SparsePool", spconv.SparseAvgPool3d(2, 2)),
    ("SparseGlobalPool", spconv.SparseGlobalMaxPool()),
    ("SparseGlobalPool", spconv.SparseGlobalAvgPool()),
    ("SparseToDense", spconv.ToDense()),
    ("SparseConv", spconv.SparseConvTranspose3d(4, 6, 3, 2, 1, output_padding=1)),
    ("SparseConv", spconv.SubMConv3d(4, 8, (3, 1, 5), dilation=(2, 1, 1), groups=4)),
    ("SparseConv", spconv.SparseConv3d(4, 8, (2, 3, 4), (2, 1, 3), (0, 1, 2), bias=False)),
    ("SparseConv", spconv.SubMConv3d(4, 8, 1)),
]  # fmt: skip


@pytest.mark.parametrize(
    ("operator", "layer"), LAYERS, ids=[f"{name}-{i}" for i, (name, _) in enumerate(LAYERS)]
)
def test_layers(tmp_path: Path, operator: str, layer: nn.Module) -> None:
    assert export_counting(Function(lambda x, part: part(x), layer), tmp_path)[operator] == 1


def test_sparse_batch_norm_is_folded(tmp_path: Path) -> None:
    norm = spconv.SparseBatchNorm(8)
    with torch.no_grad():
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2.0)
    network = Function(
        lambda x, *parts: parts[2](parts[1](parts[0](x))),
        spconv.SubMConv3d(4, 8, 3),
        norm,
        spconv.SparseReLU(),
    )
    found = export_counting(network, tmp_path)
    assert found["SparseConv"] == 1
    assert not found.keys() & {"BatchNormalization", "Mul", "Add", "Relu"}


def test_a_dense_head_behind_sparse_layers(tmp_path: Path) -> None:
    def function(x: Any, conv: nn.Module, *head: nn.Module) -> dict[str, Tensor]:
        dense = conv(x).dense()
        y = dense.view(dense.shape[0], -1, *dense.shape[3:])
        for part in head:
            y = part(y)
        return {"heat": torch.sigmoid(y)}

    network = Function(
        function,
        spconv.SparseConv3d(4, 8, 3, 2, 1),
        nn.Conv2d(40, 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.ConvTranspose2d(16, 2, 2, stride=2),
    )
    found = export_counting(network, tmp_path)
    assert (found["Conv"], found["ConvTranspose"], found["SparseConv"]) == (1, 1, 1)


def test_pruning_by_a_mask(tmp_path: Path) -> None:
    def function(x: Any, conv: nn.Module, after: nn.Module) -> spconv.SparseConvTensor:
        y = conv(x)
        return after(y.select_by_index(y.features[:, 0] > 0))

    parts = (spconv.SubMConv3d(4, 8, 3), spconv.SubMConv3d(8, 4, 3))
    found = export_counting(Function(function, *parts), tmp_path)
    assert found["SubmanifoldRulebook"] == 2


DIMENSIONS: dict[int, list[int]] = {1: [300], 2: [20, 30], 4: [5, 6, 7, 8]}


@pytest.mark.parametrize("axes", DIMENSIONS)
def test_other_numbers_of_axes(tmp_path: Path, axes: int) -> None:
    layers = spconv.SparseSequential(
        getattr(spconv, f"SubMConv{axes}d")(4, 8, 3, indice_key="a"),
        nn.BatchNorm1d(8),
        nn.ReLU(),
        getattr(spconv, f"SparseConv{axes}d")(8, 8, 3, 2, 1, indice_key="b"),
        getattr(spconv, f"SparseMaxPool{axes}d")(2, 2),
    )
    inverse = getattr(spconv, f"SparseInverseConv{axes}d")(8, 4, 3, indice_key="b")

    def function(x: Any, layers: nn.Module, inverse: nn.Module) -> dict[str, Any]:
        pooled = layers(x)
        return {
            "pooled": pooled,
            "dense": pooled.dense(),
            "first": inverse(layers[3](layers[0](x))),
        }

    found = export_counting(Function(function, layers, inverse), tmp_path, DIMENSIONS[axes])
    assert found["SparseRulebook"] == 2
    assert found["InverseRulebook"] == 1
