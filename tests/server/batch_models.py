# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Models that take batches, and frames for them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from voxgate_ops.metadata import ModelMetadata, OutputMetadata, write_metadata
from voxgate_server.codec import DecodedFrame

GRID = (8, 16, 16)
COLUMNS = 4
_HIDDEN = 24
_FLOAT, _INT32, _INT64 = TensorProto.FLOAT, TensorProto.INT32, TensorProto.INT64


def frame(count: int, seed: int = 0) -> DecodedFrame:
    """`count` sites of GRID in canonical order, with features."""
    random = np.random.default_rng([seed, count])
    cells = np.sort(random.choice(int(np.prod(GRID)), count, replace=False))
    coords = np.zeros((count, 1 + len(GRID)), np.int32)
    coords[:, 1:] = np.stack(np.unravel_index(cells, GRID), axis=1)
    features = random.standard_normal((count, COLUMNS), np.float32)
    return DecodedFrame({"coords": coords, "features": features}, count, None)


def metadata(outputs: dict[str, OutputMetadata], **more: object) -> ModelMetadata:
    values: dict[str, object] = {
        "input_kind": "voxels",
        "axes": ["z", "y", "x"],
        "spatial_shape": list(GRID),
        "feature_names": ["a", "b", "c", "d"],
        "outputs": outputs,
        "exporter_version": "test",
    }
    return ModelMetadata.model_validate(values | more)


def save(
    path: Path,
    nodes: list[onnx.NodeProto],
    outputs: list[onnx.ValueInfoProto],
    described: ModelMetadata,
    constants: dict[str, np.ndarray] | None = None,
) -> Path:
    inputs = [
        helper.make_tensor_value_info("coords", _INT32, ["N", 4]),
        helper.make_tensor_value_info("features", _FLOAT, ["N", COLUMNS]),
        helper.make_tensor_value_info("batch_size", _INT64, []),
    ]
    used = {name for node in nodes for name in node.input}
    inputs = [one for one in inputs if one.name in used | {"coords", "features"}]
    initializers = [numpy_helper.from_array(v, k) for k, v in (constants or {}).items()]
    graph = helper.make_graph(nodes, "test", inputs, outputs, initializers)
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("voxgate", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    write_metadata(model, described)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    return path


def every_meaning(path: Path) -> Path:
    """A layer of sparse convolution, and behind it an output of every meaning."""
    random = np.random.default_rng(7)

    def sparse(name: str, inputs: list[str], outputs: list[str], **attributes: object):
        return helper.make_node(name, inputs, outputs, domain="voxgate", **attributes)

    node = helper.make_node
    geometry = {"spatial_shape": list(GRID), "kernel_size": [3, 3, 3]}
    nodes = [
        sparse("SubmanifoldRulebook", ["coords"], ["near"], **geometry),
        sparse("SparseConv", ["features", "near", "w1", "b1"], ["x"], activation="relu"),
        node("MatMul", ["x", "head"], ["logits"]),
        node("Softmax", ["logits"], ["score"], axis=1),
        node("ArgMax", ["logits"], ["label"], axis=1, keepdims=0),
        sparse("SparseRulebook", ["coords"], ["down_coords", "down"], stride=[2, 2, 2], **geometry),
        sparse("SparseConv", ["x", "down", "w2"], ["down_features"]),
        sparse("SparseGlobalPool", ["x", "coords", "batch_size"], ["pooled"], mode="avg"),
        node("Gemm", ["pooled", "head", "bias"], ["scene"]),
        sparse(
            "SparseToDense",
            ["coords", "features", "batch_size"],
            ["volume"],
            spatial_shape=list(GRID),
        ),
        node("ReduceMax", ["volume", "axis_2"], ["flat"], keepdims=0),
        node("Conv", ["flat", "w3"], ["bev"], pads=[1, 1, 1, 1]),
        node("Gather", ["features", "zero"], ["first"], axis=1),
        node("Greater", ["first", "half"], ["hit"]),
        node("Compress", ["features", "hit"], ["boxes"], axis=0),
        node("Gather", ["coords", "zero"], ["site_frame"], axis=1),
        node("Compress", ["site_frame", "hit"], ["box_frame"], axis=0),
    ]
    constants = {
        "w1": random.standard_normal((27, COLUMNS, _HIDDEN), np.float32),
        "b1": random.standard_normal(_HIDDEN, np.float32),
        "w2": random.standard_normal((27, _HIDDEN, 5), np.float32),
        "w3": random.standard_normal((3, COLUMNS, 3, 3), np.float32),
        "head": random.standard_normal((_HIDDEN, 7), np.float32),
        "bias": random.standard_normal(7, np.float32),
        "axis_2": np.array([2]),
        "zero": np.array(0),
        "half": np.array(0.5, np.float32),
    }
    value = helper.make_tensor_value_info
    outputs = [
        value("score", _FLOAT, ["N", 7]),
        value("label", _INT64, ["N"]),
        value("down_coords", _INT32, ["M", 4]),
        value("down_features", _FLOAT, ["M", 5]),
        value("scene", _FLOAT, ["B", 7]),
        value("bev", _FLOAT, ["B", 3, 16, 16]),
        value("boxes", _FLOAT, ["R", COLUMNS]),
        value("box_frame", _INT32, ["R"]),
    ]
    described = metadata(
        {
            "score": OutputMetadata(meaning="per_site"),
            "label": OutputMetadata(meaning="per_site"),
            "down_coords": OutputMetadata(meaning="sparse", coords="down_coords"),
            "down_features": OutputMetadata(meaning="sparse", coords="down_coords"),
            "scene": OutputMetadata(meaning="per_frame"),
            "bev": OutputMetadata(meaning="dense"),
            "boxes": OutputMetadata(meaning="detections", frame="box_frame"),
            "box_frame": OutputMetadata(meaning="detections", frame="box_frame", hidden=True),
        }
    )
    return save(path, nodes, outputs, described, constants)


def looping(path: Path) -> Path:
    """`out` (per_site): the features with their sign turned as often as they sum up to."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["goes_on"]),
            helper.make_node("Neg", ["before"], ["after"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("turn", _INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("before", _FLOAT, ["N", COLUMNS]),
        ],
        [
            helper.make_tensor_value_info("goes_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("after", _FLOAT, ["N", COLUMNS]),
        ],
    )
    nodes = [
        helper.make_node("ReduceSum", ["features"], ["sum"], keepdims=0),
        helper.make_node("Cast", ["sum"], ["turns"], to=_INT64),
        helper.make_node("Loop", ["turns", "yes", "features"], ["out"], body=body),
    ]
    outputs = [helper.make_tensor_value_info("out", _FLOAT, ["N", COLUMNS])]
    described = metadata({"out": OutputMetadata(meaning="per_site")})
    return save(path, nodes, outputs, described, {"yes": np.array(True)})


def row_model(path: Path, *nodes: onnx.NodeProto, columns: int, **more: object) -> Path:
    """`nodes` from the features to `out` (per_site), `columns` of them."""
    outputs = [helper.make_tensor_value_info("out", _FLOAT, [None, columns])]
    described = metadata({"out": OutputMetadata(meaning="per_site")}, **more)
    return save(path, list(nodes), outputs, described)


def cumulative_sum() -> list[onnx.NodeProto]:
    """From the features to `out`, over all rows: an answer depends on the frames before."""
    axis = helper.make_node("Constant", [], ["axis"], value_int=0)
    return [axis, helper.make_node("CumSum", ["features", "axis"], ["out"])]
