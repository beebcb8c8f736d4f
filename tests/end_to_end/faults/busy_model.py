# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""A model that runs for as long as its frames ask for, and what to ask it with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper
from tests.server.batch_models import COLUMNS, metadata, save
from tests.server.driver import random_sites, voxels

from voxgate_ops.metadata import OutputMetadata
from voxgate_protos import voxel_inference_pb2 as pb

MODEL = "busy"
_FLOAT, _INT64 = TensorProto.FLOAT, TensorProto.INT64


def busy_model(path: Path) -> Path:
    """`out` (per_site) = feature 2, after the work that features 0 and 1 add up to over all sites.

    The work is so many rounds (a quarter of feature 1) of one NonMaxSuppression over so many boxes
    (feature 0) that do not overlap, boxes²/2 comparisons: 10,000 boxes take about 0.1 s, 60,000
    about 4 s. ONNX Runtime can end a run between two rounds only.
    """
    body = helper.make_graph(
        [
            helper.make_node("NonMaxSuppression", ["boxes", "scores", "all"], ["selected"]),
            helper.make_node("Shape", ["selected"], ["found"], end=1),
            helper.make_node("Add", ["found_before", "found"], ["found_after"]),
            helper.make_node("Identity", ["go_on"], ["goes_on"]),
        ],
        "round",
        [
            helper.make_tensor_value_info("round_number", _INT64, []),
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("found_before", _INT64, [1]),
        ],
        [
            helper.make_tensor_value_info("goes_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("found_after", _INT64, [1]),
        ],
        [numpy_helper.from_array(np.array([1 << 40], np.int64), "all")],
    )
    nodes = [
        # Features of ordinary frames, and those of the warm-up, are below 2: no work.
        helper.make_node("Greater", ["features", "two"], ["is_work"]),
        helper.make_node("Where", ["is_work", "features", "none"], ["asked"]),
        helper.make_node("ReduceSum", ["asked", "rows"], ["work"], keepdims=0),
        helper.make_node("Split", ["work"], ["w0", "w1", "w2", "w3"], num_outputs=COLUMNS),
        helper.make_node("Squeeze", ["w0"], ["box_count"]),
        helper.make_node("Squeeze", ["w1"], ["round_count"]),
        helper.make_node("Mul", ["round_count", "quarter"], ["rounds_float"]),
        helper.make_node("Cast", ["rounds_float"], ["rounds"], to=_INT64),
        helper.make_node("Range", ["zero", "box_count", "one"], ["numbers"]),
        helper.make_node("Unsqueeze", ["numbers", "last_axis"], ["column"]),
        helper.make_node("Mul", ["column", "apart"], ["corners"]),
        helper.make_node("Add", ["corners", "unit_box"], ["flat_boxes"]),
        helper.make_node("Unsqueeze", ["flat_boxes", "rows"], ["boxes"]),
        helper.make_node("Unsqueeze", ["numbers", "two_axes"], ["scores"]),
        helper.make_node("Loop", ["rounds", "true", "no_boxes"], ["boxes_found"], body=body),
        helper.make_node("Cast", ["boxes_found"], ["found_float"], to=_FLOAT),
        helper.make_node("Mul", ["found_float", "zero"], ["nothing"]),
        helper.make_node("Gather", ["features", "third"], ["value"], axis=1),
        helper.make_node("Add", ["value", "nothing"], ["out"]),
    ]
    constants = {
        "none": np.float32(0),
        "zero": np.float32(0),
        "one": np.float32(1),
        "two": np.float32(2),
        "quarter": np.float32(0.25),
        "true": np.bool_(True),
        "third": np.int64(2),
        "rows": np.array([0], np.int64),
        "last_axis": np.array([1], np.int64),
        "two_axes": np.array([0, 1], np.int64),
        "no_boxes": np.array([0], np.int64),
        "apart": np.full((1, 4), 2, np.float32),
        "unit_box": np.array([[0, 0, 1, 1]], np.float32),
    }
    outputs = [helper.make_tensor_value_info("out", _FLOAT, ["N"])]
    described = metadata({"out": OutputMetadata(meaning="per_site")})
    return save(path, nodes, outputs, described, {k: np.asarray(v) for k, v in constants.items()})


def busy_frame(frame_id: str, boxes: int = 0, rounds: int = 1, count: int = 5) -> pb.Frame:
    """A frame of `count` sites that keeps the model busy; no boxes: it is answered at once."""
    coords, values = random_sites(count)
    features = np.zeros((count, COLUMNS), np.float32)
    features[:, 2] = np.minimum(values[:, 0], 1)
    if boxes:
        features[0, 0], features[0, 1] = boxes, 4 * rounds
    return pb.Frame(frame_id=frame_id, voxels=voxels(coords, features))
