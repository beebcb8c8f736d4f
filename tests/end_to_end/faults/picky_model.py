# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""A model that takes batches, and on which certain values make ONNX Runtime fail or refuse."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tests.server.driver import random_sites, voxels
from tests.server.models import GRID

from voxgate_ops.metadata import ModelMetadata, OutputMetadata, write_metadata
from voxgate_protos import voxel_inference_pb2 as pb

FAILING_SUM = 1e6
REFUSED = -1e6


def picky_model(path: Path, *, scale: float = 2.0) -> Path:
    """`score` (per_site) = scale × feature 0 + coordinate 1, rounded to float32 at each step.

    A run fails where feature 0 adds up to more than FAILING_SUM over all its sites, and is refused
    where feature 1 of any site is below REFUSED.
    """
    nodes = [
        helper.make_node("Gather", ["features", "zero"], ["first"], axis=1),
        helper.make_node("Gather", ["features", "one"], ["second"], axis=1),
        helper.make_node("Gather", ["coords", "two"], ["axis_1"], axis=1),
        helper.make_node("Cast", ["axis_1"], ["axis_1_float"], to=TensorProto.FLOAT),
        # No number of sites can be reshaped to rows of 1e9 sites.
        helper.make_node("ReduceSum", ["first", "axes"], ["sum"], keepdims=1),
        helper.make_node("Greater", ["sum", "failing"], ["fails"]),
        helper.make_node("Where", ["fails", "huge", "ones"], ["width"]),
        helper.make_node("Concat", ["all", "width"], ["shape"], axis=0),
        helper.make_node("Reshape", ["first", "shape"], ["reshaped"]),
        helper.make_node("Reshape", ["reshaped", "all"], ["same"]),
        # There is a scale in place 0 and none in place 1.
        helper.make_node("Less", ["second", "refused"], ["is_refused"]),
        helper.make_node("Cast", ["is_refused"], ["places"], to=TensorProto.INT64),
        helper.make_node("Gather", ["scales", "places"], ["factors"], axis=0),
        helper.make_node("Mul", ["same", "factors"], ["scaled"]),
        helper.make_node("Add", ["scaled", "axis_1_float"], ["score"]),
    ]
    constants = {
        "zero": np.array(0, np.int64),
        "one": np.array(1, np.int64),
        "two": np.array(2, np.int64),
        "axes": np.array([0], np.int64),
        "all": np.array([-1], np.int64),
        "ones": np.array([1], np.int64),
        "huge": np.array([1_000_000_007], np.int64),
        "failing": np.array([FAILING_SUM], np.float32),
        "refused": np.array(REFUSED, np.float32),
        "scales": np.array([scale], np.float32),
    }
    graph = helper.make_graph(
        nodes,
        "picky",
        [
            helper.make_tensor_value_info("coords", TensorProto.INT32, ["N", 4]),
            helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", 2]),
        ],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["N"])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("voxgate", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    metadata = ModelMetadata(
        input_kind="voxels",
        axes=["z", "y", "x"],
        spatial_shape=list(GRID),
        feature_names=["intensity", "height"],
        outputs={"score": OutputMetadata(meaning="per_site")},
        exporter_version="test",
    )
    write_metadata(model, metadata)
    onnx.checker.check_model(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    return path


def picky_frame(
    frame_id: str, *, total: float = 0.0, refused: bool = False, count: int = 5
) -> pb.Frame:
    """A frame whose feature 0 adds up to `total`; one that is refused if so asked."""
    coords, features = random_sites(count)
    features[:, 0] = 0
    features[0, 0] = total
    if refused:
        features[-1, 1] = 2 * REFUSED
    return pb.Frame(frame_id=frame_id, voxels=voxels(coords, features))
