# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Small models for the server's tests, of standard operators only: they build in no time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from voxgate_ops.metadata import ModelMetadata, OutputMetadata, write_metadata

GRID = (8, 16, 16)


def _save(
    path: Path,
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    metadata: ModelMetadata,
    constants: dict[str, np.ndarray] | None = None,
) -> Path:
    initializers = [numpy_helper.from_array(v, k) for k, v in (constants or {}).items()]
    graph = helper.make_graph(nodes, "test", inputs, outputs, initializers)
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("voxgate", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    write_metadata(model, metadata)
    onnx.checker.check_model(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    return path


def _value(name: str, kind: int, *shape: str | int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def voxel_model(path: Path, *, allow_nonfinite: bool = False, scale: float = 2.0) -> Path:
    """Every meaning of a voxel model's outputs.

    `score` (per_site) = scale × feature 0 + coordinate 2; `label` (per_site) = feature 1 > 0;
    `site_coords`, `site_features` (sparse): the sites as they came; `mean` (per_frame) [B, 2];
    `boxes` (detections): the features of each site, `box_frame` its batch index.
    """
    nodes = [
        helper.make_node("Gather", ["features", "zero"], ["first"], axis=1),
        helper.make_node("Gather", ["features", "one"], ["second"], axis=1),
        helper.make_node("Gather", ["coords", "two"], ["axis_1"], axis=1),
        helper.make_node("Cast", ["axis_1"], ["axis_1_float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["first", "scale"], ["scaled"]),
        helper.make_node("Add", ["scaled", "axis_1_float"], ["score"]),
        helper.make_node("Greater", ["second", "nothing"], ["positive"]),
        helper.make_node("Cast", ["positive"], ["label"], to=TensorProto.INT32),
        helper.make_node("Identity", ["coords"], ["site_coords"]),
        helper.make_node("Identity", ["features"], ["site_features"]),
        helper.make_node("ReduceMean", ["features", "axes"], ["mean"], keepdims=1),
        helper.make_node("Identity", ["features"], ["boxes"]),
        helper.make_node("Gather", ["coords", "zero"], ["box_frame"], axis=1),
    ]
    metadata = ModelMetadata(
        input_kind="voxels",
        axes=["z", "y", "x"],
        spatial_shape=list(GRID),
        feature_names=["intensity", "height"],
        outputs={
            "score": OutputMetadata(meaning="per_site"),
            "label": OutputMetadata(meaning="per_site"),
            "site_coords": OutputMetadata(meaning="sparse", coords="site_coords"),
            "site_features": OutputMetadata(meaning="sparse", coords="site_coords"),
            "mean": OutputMetadata(meaning="per_frame"),
            "boxes": OutputMetadata(meaning="detections", frame="box_frame"),
            "box_frame": OutputMetadata(meaning="detections", frame="box_frame", hidden=True),
        },
        allow_nonfinite=allow_nonfinite,
        exporter_version="test",
    )
    constants = {
        "zero": np.array(0, np.int64),
        "one": np.array(1, np.int64),
        "two": np.array(2, np.int64),
        "axes": np.array([0], np.int64),
        "scale": np.array(scale, np.float32),
        "nothing": np.array(0, np.float32),
    }
    inputs = [
        _value("coords", TensorProto.INT32, "N", 4),
        _value("features", TensorProto.FLOAT, "N", 2),
    ]
    outputs = [
        _value("score", TensorProto.FLOAT, "N"),
        _value("label", TensorProto.INT32, "N"),
        _value("site_coords", TensorProto.INT32, "N", 4),
        _value("site_features", TensorProto.FLOAT, "N", 2),
        _value("mean", TensorProto.FLOAT, 1, 2),
        _value("boxes", TensorProto.FLOAT, "N", 2),
        _value("box_frame", TensorProto.INT32, "N"),
    ]
    return _save(path, nodes, inputs, outputs, metadata, constants)


def points_model(path: Path) -> Path:
    """`norm` (per_point) = x + y + z + intensity of every point, NaN where a coordinate is."""
    nodes = [helper.make_node("ReduceSum", ["points", "axes"], ["norm"], keepdims=0)]
    metadata = ModelMetadata(
        input_kind="points",
        axes=["z", "y", "x"],
        spatial_shape=list(GRID),
        feature_names=["x", "y", "z", "intensity"],
        point_range=[0, 0, 0, 16, 16, 8],
        voxel_size=[1, 1, 1],
        outputs={"norm": OutputMetadata(meaning="per_point")},
        exporter_version="test",
    )
    inputs = [
        _value("points", TensorProto.FLOAT, "P", 4),
        _value("point_batch", TensorProto.INT32, "P"),
    ]
    outputs = [_value("norm", TensorProto.FLOAT, "P")]
    return _save(path, nodes, inputs, outputs, metadata, {"axes": np.array([1], np.int64)})


def refusing_model(path: Path) -> Path:
    """ONNX Runtime refuses frames of fewer than four sites: `out` is the fourth one's feature 0."""
    nodes = [
        helper.make_node("Gather", ["features", "zero"], ["first"], axis=1),
        helper.make_node("Gather", ["first", "places"], ["out"], axis=0),
    ]
    metadata = ModelMetadata(
        input_kind="voxels",
        axes=["z", "y", "x"],
        spatial_shape=list(GRID),
        feature_names=["intensity", "height"],
        outputs={"out": OutputMetadata(meaning="per_frame")},
        exporter_version="test",
    )
    constants = {"zero": np.array(0, np.int64), "places": np.array([[3]], np.int64)}
    inputs = [
        _value("coords", TensorProto.INT32, "N", 4),
        _value("features", TensorProto.FLOAT, "N", 2),
    ]
    outputs = [_value("out", TensorProto.FLOAT, 1, 1)]
    return _save(path, nodes, inputs, outputs, metadata, constants)


# Nodes whose output would fill any memory, with the grid their model has and what the error names.
# The dense volume and the transposed layer grow with the frame's sites, the third whatever is sent.
EXPLOSIONS: dict[str, tuple[list[int], list[str]]] = {
    "dense": ([4096, 4096, 4096], ["68719476736 is over the limit"]),
    "transposed": ([1000, 8, 8, 8], ["2401", "1073741824"]),
    "batch_size": ([1000, 8, 8], ["batch_size is 1099511627776"]),
}


def exploding_model(path: Path, kind: str) -> Path:
    """A model, one of EXPLOSIONS, that runs on an empty frame at most."""
    grid, _ = EXPLOSIONS[kind]
    axes = len(grid)
    constants: dict[str, np.ndarray] = {}
    inputs = [
        _value("coords", TensorProto.INT32, "N", 1 + axes),
        _value("features", TensorProto.FLOAT, "N", 2),
    ]
    if kind == "transposed":
        # Every site feeds 7^4 = 2401 output sites of its own.
        node = helper.make_node(
            "SparseRulebook",
            ["coords"],
            ["out", "neighbors"],
            domain="voxgate",
            spatial_shape=grid,
            kernel_size=[7] * axes,
            stride=[7] * axes,
            transposed=1,
        )
        outputs = [_value("out", TensorProto.INT32, "M", 1 + axes)]
        described = OutputMetadata(meaning="sparse", coords="out")
    elif kind == "dense":
        node = helper.make_node(
            "SparseToDense",
            ["coords", "features", "batch_size"],
            ["out"],
            domain="voxgate",
            spatial_shape=grid,
        )
        inputs.append(_value("batch_size", TensorProto.INT64))
        outputs = [_value("out", TensorProto.FLOAT, "B", 2, *grid)]
        described = OutputMetadata(meaning="dense")
    else:
        node = helper.make_node(
            "SparseGlobalPool",
            ["features", "coords", "many"],
            ["out"],
            domain="voxgate",
            mode="max",
        )
        constants["many"] = np.array(1 << 40, np.int64)
        outputs = [_value("out", TensorProto.FLOAT, "B", 2)]
        described = OutputMetadata(meaning="per_frame")
    metadata = ModelMetadata(
        input_kind="voxels",
        axes=["t", "z", "y", "x"][-axes:],
        spatial_shape=grid,
        feature_names=["intensity", "height"],
        outputs={"out": described},
        exporter_version="test",
    )
    return _save(path, [node], inputs, outputs, metadata, constants)


def overflowing_model(path: Path) -> Path:
    """A grid of more cells than 63 bits can count."""
    grid = [2**31 - 1] * 3
    node = helper.make_node(
        "SortSites", ["coords"], ["out", "order", "rank"], domain="voxgate", spatial_shape=grid
    )
    metadata = ModelMetadata(
        input_kind="voxels",
        axes=["z", "y", "x"],
        spatial_shape=grid,
        feature_names=["intensity", "height"],
        outputs={"out": OutputMetadata(meaning="sparse", coords="out")},
        exporter_version="test",
    )
    inputs = [
        _value("coords", TensorProto.INT32, "N", 4),
        _value("features", TensorProto.FLOAT, "N", 2),
    ]
    return _save(path, [node], inputs, [_value("out", TensorProto.INT32, "M", 4)], metadata)
