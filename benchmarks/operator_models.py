# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""ONNX models of one operator, to measure it as ONNX Runtime calls it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper


def write_sparse_conv_model(
    path: Path, kernel_volume: int, channels: int, *, half: bool = False
) -> NDArray[Any]:
    """SparseConv x, neighbors -> y with constant weights, so that a session packs them once.

    `half`: x, y and weights are float16. Returns the weights [K, Ci, Co].
    """
    generator = np.random.default_rng(channels)
    weight = generator.standard_normal((kernel_volume, channels, channels))
    weight = weight.astype(np.float16 if half else np.float32)
    element = TensorProto.FLOAT16 if half else TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node("SparseConv", ["x", "neighbors", "weight"], ["y"], domain="voxgate")],
        "sparse_conv",
        [
            helper.make_tensor_value_info("x", element, ["N", channels]),
            helper.make_tensor_value_info("neighbors", TensorProto.INT32, [kernel_volume, "M"]),
        ],
        [helper.make_tensor_value_info("y", element, ["M", channels])],
        [numpy_helper.from_array(weight, "weight")],
    )
    _save(graph, path)
    return weight


def write_submanifold_rulebook_model(
    path: Path, spatial_shape: list[int], kernel_size: list[int]
) -> None:
    """SubmanifoldRulebook coords -> neighbors."""
    axes = len(kernel_size)
    node = helper.make_node(
        "SubmanifoldRulebook",
        ["coords"],
        ["neighbors"],
        domain="voxgate",
        spatial_shape=spatial_shape,
        kernel_size=kernel_size,
        dilation=[1] * axes,
    )
    volume = int(np.prod(kernel_size))
    graph = helper.make_graph(
        [node],
        "submanifold_rulebook",
        [helper.make_tensor_value_info("coords", TensorProto.INT32, ["N", 1 + axes])],
        [helper.make_tensor_value_info("neighbors", TensorProto.INT32, [volume, "N"])],
    )
    _save(graph, path)


def _save(graph: onnx.GraphProto, path: Path) -> None:
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("voxgate", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
