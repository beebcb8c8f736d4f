# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Small networks for the export tests, and the sites to run them on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from torch import Tensor, nn

import voxgate_ops.nn as spconv
from voxgate_ops.export import export_onnx

SHAPE = [9, 10, 11]
Array = npt.NDArray[Any]


class Layers(nn.Module):
    """Layers one after the other, then the features."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = spconv.SparseSequential(*layers)

    def forward(self, x: spconv.SparseConvTensor) -> Tensor:
        return self.layers(x).features


class Function(nn.Module):
    """Submodules and a function of the input and them."""

    def __init__(self, function: Callable[..., Any], *parts: nn.Module, **named: nn.Module) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)
        self.named = nn.ModuleDict(named)
        self.function = function

    def forward(self, x: spconv.SparseConvTensor) -> Any:
        return self.function(x, *self.parts, **self.named)


def subm(inputs: int, outputs: int, bias: bool = False, key: str | None = None) -> nn.Module:
    return spconv.SubMConv3d(inputs, outputs, 3, padding=1, bias=bias, indice_key=key)


def norm(channels: int) -> nn.BatchNorm1d:
    module = nn.BatchNorm1d(channels, eps=1e-3)
    with torch.no_grad():
        module.weight.uniform_(-1.5, 1.5)
        module.bias.normal_()
        module.running_mean.normal_()
        module.running_var.uniform_(0.2, 3.0)
    return module.eval()


def down(inputs: int, outputs: int, key: str | None = None) -> nn.Module:
    return spconv.SparseConv3d(inputs, outputs, 3, stride=2, padding=1, bias=False, indice_key=key)


def export(network: nn.Module, path: Path, num_features: int = 4, **given: Any) -> onnx.ModelProto:
    given.setdefault("spatial_shape", SHAPE)
    export_onnx(network, path, num_features=num_features, **given)
    return onnx.load(path)


def operators(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


def attributes(model: onnx.ModelProto, op_type: str) -> list[dict[str, Any]]:
    return [
        {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        for node in model.graph.node
        if node.op_type == op_type
    ]


def sites(count: int, seed: int = 1, frames: int = 1, width: int = 4) -> tuple[Array, Array]:
    random = np.random.default_rng(seed)
    volume = int(np.prod(SHAPE))
    cells = random.choice(frames * volume, count, replace=False)
    batch, cell = np.divmod(cells, volume)
    coords = np.stack([batch, *np.unravel_index(cell, tuple(SHAPE))], axis=1).astype(np.int32)
    return coords, random.standard_normal((count, width), dtype=np.float32)
