# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""What the operators refuse: the ORT status, and the node, values and expectation it names."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument

F32, I32, I64 = np.float32, np.int32, np.int64


def zeros(dtype: Any, *shape: int) -> np.ndarray:
    return np.zeros(shape, dtype)


def conv_inputs(**replaced: Any) -> dict[str, Any]:
    """A legal SparseConv: 5 → 3 rows, 32 → 64 channels, 27 kernel offsets; -1: no pair."""
    inputs = {
        "features": zeros(F32, 5, 32),
        "neighbors": np.full((27, 3), -1, I32),
        "weight": zeros(F32, 27, 32, 64),
        "bias": zeros(F32, 64),
        "residual": zeros(F32, 3, 64),
    }
    return inputs | replaced


GRID = {"point_range": [0.0, 0.0, 0.0, 8.0, 8.0, 8.0], "voxel_size": [1.0, 1.0, 1.0]}

# operator, inputs, attributes, what the message must hold
SHAPE_ERRORS = [
    (
        "SparseConv",
        conv_inputs(features=zeros(F32, 5, 16)),
        {},
        "features has 16 channels, weight [27, 32, 64] needs 32",
    ),
    (
        "SparseConv",
        conv_inputs(),
        {"groups": 2},
        "features has 32 channels, weight [27, 32, 64] needs 64",
    ),
    (
        "SparseConv",
        conv_inputs(neighbors=zeros(I32, 9, 3)),
        {},
        "neighbors has 9 kernel offsets, weight [27, 32, 64] needs 27",
    ),
    (
        "SparseConv",
        conv_inputs(bias=zeros(F32, 63)),
        {},
        "bias has 63 channels, weight [27, 32, 64] needs 64",
    ),
    (
        "SparseConv",
        conv_inputs(residual=zeros(F32, 4, 64)),
        {},
        "residual has 4 rows, neighbors [27, 3] needs 3",
    ),
    (
        "SparseConv",
        conv_inputs(residual=zeros(F32, 3, 8)),
        {},
        "residual has 8 channels, weight [27, 32, 64] needs 64",
    ),
    (
        "SparseConv",
        conv_inputs(weight=zeros(F32, 32, 64)),
        {},
        "weight has shape [32, 64], expected [K, Ci / groups, Co]",
    ),
    (
        "SparsePool",
        {"features": zeros(F32, 5), "neighbors": zeros(I32, 1, 1)},
        {"mode": "max"},
        "features has shape [5], expected [N, C]",
    ),
    (
        "SubmanifoldRulebook",
        {"coords": zeros(I32, 5, 3)},
        {"spatial_shape": [8, 8, 8], "kernel_size": [3, 3, 3]},
        "coords has shape [5, 3], 3 spatial axes need 4 columns",
    ),
    (
        "FindSites",
        {"coords": zeros(I32, 5, 4), "query": zeros(I32, 5, 3)},
        {},
        "query has 3 columns, coords [5, 4] needs 4",
    ),
    (
        "FindSites",
        {"coords": zeros(I32, 5, 7), "query": zeros(I32, 5, 7)},
        {},
        "coords has shape [5, 7], expected 2 to 5 columns",
    ),
    (
        "SparseToDense",
        {"coords": zeros(I32, 1, 4), "features": zeros(F32, 2, 3), "batch_size": np.array(1)},
        {"spatial_shape": [8, 8, 8]},
        "features has 2 rows, coords [1, 4] needs 1",
    ),
    (
        "SparseGlobalPool",
        {"features": zeros(F32, 0, 3), "coords": zeros(I32, 0, 4), "batch_size": zeros(I64, 2)},
        {"mode": "max"},
        "batch_size has shape [2], expected",
    ),
    (
        "SparseUnion",
        {
            "coords_a": zeros(I32, 0, 4),
            "features_a": zeros(F32, 0, 4),
            "coords_b": zeros(I32, 0, 4),
            "features_b": zeros(F32, 0, 5),
        },
        {"mode": "sum"},
        "features_b has 5 channels, features_a [0, 4] needs 4",
    ),
    (
        "ReduceRows",
        {"x": zeros(F32, 6, 2), "row": zeros(I32, 5), "coords": zeros(I32, 1, 4)},
        {"mode": "sum"},
        "row has 5 values, x [6, 2] needs 6",
    ),
    (
        "Voxelize",
        {"points": zeros(F32, 6, 2), "point_batch": zeros(I32, 6)},
        GRID,
        "points has shape [6, 2], a grid of 3 axes needs 3 or more columns",
    ),
    (
        "Voxelize",
        {"points": zeros(F32, 6, 3), "point_batch": zeros(I32, 7)},
        GRID,
        "point_batch has 7 values, points [6, 3] needs 6",
    ),
    (
        "RotatedNms",
        {"boxes": zeros(F32, 3, 6), "scores": zeros(F32, 3), "frame": zeros(I32, 3)},
        {"iou_threshold": 0.5},
        "boxes has shape [3, 6], expected [R, 7]",
    ),
    (
        "DenseToSparse",
        {"dense": zeros(F32, 2, 3)},
        {},
        "dense has shape [2, 3], expected [B, C, *spatial_shape]",
    ),
]


@pytest.mark.parametrize(("op_type", "inputs", "attributes", "message"), SHAPE_ERRORS)
def test_shape_is_refused(operators, op_type, inputs, attributes, message):
    with pytest.raises(InvalidArgument) as raised:
        operators.run(op_type, inputs, outputs_of(op_type), **attributes)
    assert f'{op_type} node "node": {message}' in str(raised.value)


def outputs_of(op_type: str) -> list[str]:
    return {
        "SortSites": ["coords", "order", "rank"],
        "Voxelize": ["coords", "features", "point_voxel"],
        "SparseRulebook": ["out_coords", "neighbors"],
        "SparseUnion": ["coords", "features"],
        "DenseToSparse": ["coords", "features"],
    }.get(op_type, ["out"])


# operator, inputs, attributes, every part the message must hold
VALUE_ERRORS = [
    (
        "SortSites",
        {"coords": np.array([[0, 1, 2, 8]], I32)},
        {"spatial_shape": [8, 8, 8]},
        ["8", "[8, 8, 8]"],
    ),
    (
        "SortSites",
        {"coords": np.array([[-1, 1, 2, 3]], I32)},
        {"spatial_shape": [8, 8, 8]},
        ["-1"],
    ),
    (
        "SortSites",
        {"coords": np.array([[0, 1], [0, 4], [0, 1]], I32)},
        {"spatial_shape": [8]},
        ["rows 0 and 2", "0, 1"],
    ),
    (
        "SubmanifoldRulebook",
        {"coords": np.array([[0, 4], [0, 1]], I32)},
        {"spatial_shape": [8], "kernel_size": [3]},
        ["0, 1"],
    ),
    ("SparseConv", conv_inputs(neighbors=np.full((27, 3), 7, I32)), {}, ["7", "5"]),
    ("GatherRows", {"x": zeros(F32, 4, 2), "row": np.array([0, 4], I32)}, {}, ["4"]),
    (
        "SparseGlobalPool",
        {
            "features": zeros(F32, 1, 2),
            "coords": np.array([[3, 0]], I32),
            "batch_size": np.array(3),
        },
        {"mode": "sum"},
        ["3"],
    ),
    (
        "SparseToDense",
        {"coords": zeros(I32, 0, 4), "features": zeros(F32, 0, 1), "batch_size": np.array(-5)},
        {"spatial_shape": [8, 8, 8]},
        ["batch_size is -5, expected 0 or more"],
    ),
]


@pytest.mark.parametrize(("op_type", "inputs", "attributes", "parts"), VALUE_ERRORS)
def test_value_is_refused(operators, op_type, inputs, attributes, parts):
    with pytest.raises(InvalidArgument) as raised:
        operators.run(op_type, inputs, outputs_of(op_type), **attributes)
    message = str(raised.value)
    assert f'{op_type} node "node": ' in message
    detail = message.split('node "node": ')[1]
    assert all(part in detail for part in parts), detail


HUGE = 2**40
LIMITS = [
    (
        "SparseToDense",
        {"coords": zeros(I32, 0, 4), "features": zeros(F32, 0, 1), "batch_size": np.array(HUGE)},
        {"spatial_shape": [8, 8, 8]},
        [str(HUGE), str(2**16)],
    ),
    (
        "SparseGlobalPool",
        {"features": zeros(F32, 0, 1), "coords": zeros(I32, 0, 4), "batch_size": np.array(HUGE)},
        {"mode": "max"},
        [str(HUGE), str(2**16)],
    ),
    (
        "SparseToDense",
        {"coords": zeros(I32, 0, 4), "features": zeros(F32, 0, 64), "batch_size": np.array(60_000)},
        {"spatial_shape": [41, 1600, 1408]},
        ["3840000", str(41 * 1600 * 1408), str(2**30)],
    ),
    (
        # 1000 sites feed 2401 output sites each, through 2401 offsets: 23 GB of neighbors.
        "SparseRulebook",
        {
            "coords": np.stack(
                [zeros(I32, 1000), np.arange(1000, dtype=I32), *zeros(I32, 3, 1000)], 1
            )
        },
        {
            "spatial_shape": [1000, 8, 8, 8],
            "kernel_size": [7] * 4,
            "stride": [7] * 4,
            "transposed": 1,
        },
        ["2401", str(2**30)],
    ),
]


@pytest.mark.parametrize(("op_type", "inputs", "attributes", "parts"), LIMITS)
def test_limit_is_an_error_not_a_killed_process(operators, op_type, inputs, attributes, parts):
    with pytest.raises(Exception) as raised:  # noqa: PT011 - at creation ORT wraps it otherwise
        operators.run(op_type, inputs, outputs_of(op_type), **attributes)
    message = str(raised.value)
    assert f'{op_type} node "node": ' in message
    assert all(part in message for part in parts), message


def test_limits_carry_their_own_words(operators):
    """A server tells a limit from a bad argument by the status code and these words."""
    inputs = {
        "coords": zeros(I32, 0, 2),
        "features": zeros(F32, 0, 1),
        "batch_size": np.array(HUGE),
    }
    with pytest.raises(Fail, match="resource exhausted: batch_size is 1099511627776"):
        operators.run("SparseToDense", inputs, ["dense"], spatial_shape=[8])


COORDS = {"coords": zeros(I32, 0, 4)}
RULEBOOK = {"spatial_shape": [8, 8, 8], "kernel_size": [3, 3, 3]}
POINTS = {"points": zeros(F32, 0, 3), "point_batch": zeros(I32, 0)}
BOXES = {"boxes": zeros(F32, 0, 7), "scores": zeros(F32, 0), "frame": zeros(I32, 0)}
POOL = {"features": zeros(F32, 0, 1), "neighbors": zeros(I32, 1, 0)}

ATTRIBUTE_ERRORS = [
    ("SortSites", COORDS, {}, "attribute spatial_shape (a list of ints) is missing"),
    ("SortSites", COORDS, {"spatial_shape": [8] * 5}, "[8, 8, 8, 8, 8] has 5 axes, expected 1 to"),
    ("SortSites", COORDS, {"spatial_shape": [8, 0, 8]}, "0"),
    ("SortSites", COORDS, {"spatial_shape": [2**31 - 1] * 3}, "2147483647"),
    ("SortSites", COORDS, {"spatial_shape": 8}, "attribute spatial_shape is not a list of ints"),
    (
        "SortSites",
        COORDS,
        {"spatial_shape": [1.5]},
        "attribute spatial_shape is not a list of ints",
    ),
    (
        "SortSites",
        COORDS,
        {"spatial_shape": [8, 8, 8], "duplicates": "last"},
        'attribute duplicates is "last", expected one of error, first',
    ),
    (
        "SortSites",
        COORDS,
        {"spatial_shape": [8, 8, 8], "duplicates": 1},
        "attribute duplicates is not a string",
    ),
    (
        "SubmanifoldRulebook",
        COORDS,
        RULEBOOK | {"kernel_size": [3, 3]},
        "attribute kernel_size [3, 3] has 2 values, spatial_shape has 3 axes",
    ),
    ("SubmanifoldRulebook", COORDS, RULEBOOK | {"kernel_size": [3, 2, 3]}, "2"),
    ("SubmanifoldRulebook", COORDS, {"spatial_shape": [8, 8, 8]}, "attribute kernel_size"),
    ("SparseRulebook", COORDS, RULEBOOK | {"stride": [1, 0, 1]}, "0"),
    ("SparseRulebook", COORDS, RULEBOOK | {"kernel_size": [17, 17, 17]}, "4096"),
    ("SparseRulebook", COORDS, RULEBOOK | {"kernel_size": [9, 3, 3]}, "9"),
    (
        "SparseRulebook",
        COORDS,
        RULEBOOK | {"transposed": 2},
        "attribute transposed is 2, expected 0 to 1",
    ),
    (
        "SparseRulebook",
        COORDS,
        RULEBOOK | {"transposed": 1, "output_padding": [3, 0, 0]},
        "output_padding",
    ),
    ("SparsePool", POOL, {}, "attribute mode (one of max, avg, sum) is missing"),
    ("SparsePool", POOL, {"mode": "mean"}, 'attribute mode is "mean", expected one of max, avg'),
    ("SparseConv", conv_inputs(), {"groups": 0}, "attribute groups is 0"),
    ("SparseConv", conv_inputs(), {"groups": 1.5}, "attribute groups is not an int"),
    ("SparseConv", conv_inputs(), {"activation": "tanh"}, 'attribute activation is "tanh"'),
    ("SparseConv", conv_inputs(), {"alpha": float("nan")}, "attribute alpha is NaN"),
    ("Voxelize", POINTS, {"voxel_size": [1.0] * 3}, "attribute point_range"),
    ("Voxelize", POINTS, GRID | {"voxel_size": [1.0, -1.0, 1.0]}, "-1"),
    ("Voxelize", POINTS, GRID | {"voxel_size": [1.0, 1.0]}, "6 values, expected 4"),
    (
        "Voxelize",
        POINTS,
        GRID | {"max_points": -1},
        "attribute max_points is -1, expected 0 or more",
    ),
    ("Voxelize", POINTS, GRID | {"reduce": "min"}, 'attribute reduce is "min"'),
    ("RotatedNms", BOXES, {}, "attribute iou_threshold (a float) is missing"),
    ("RotatedNms", BOXES, {"iou_threshold": 1.5}, "attribute iou_threshold is 1.5"),
    (
        "GatherRows",
        {"x": zeros(I64, 1, 1), "row": zeros(I32, 1)},
        {"fill": 0.5},
        "attribute fill is 0.5, expected an int64",
    ),
    (
        "GatherRows",
        {"x": zeros(I32, 1, 1), "row": zeros(I32, 1)},
        {"fill": 2.0**31},
        "expected an int32",
    ),
]


@pytest.mark.parametrize(("op_type", "inputs", "attributes", "message"), ATTRIBUTE_ERRORS)
def test_attribute_is_refused_at_session_creation(operators, op_type, inputs, attributes, message):
    outputs = outputs_of(op_type)
    node = operators.node(op_type, list(inputs), [f"{name}_out" for name in outputs], **attributes)
    model = operators.model([node], inputs, [f"{name}_out" for name in outputs])
    with pytest.raises(Exception) as raised:  # noqa: PT011 - ORT wraps it in its own
        operators.session(model)
    assert f'{op_type} node "node": ' in str(raised.value)
    assert message in str(raised.value).split('node "node": ')[1]


def test_bad_constant_weight_is_refused_at_session_creation(operators):
    with pytest.raises(Exception, match=r'SparseConv node "node": .*groups'):
        operators.run("SparseConv", conv_inputs(), ["out"], constants=["weight"], groups=7)


def test_missing_required_input_is_refused(operators):
    with pytest.raises(Exception, match="SparsePool"):
        operators.run(
            "SparsePool", {"features": zeros(F32, 1, 1), "neighbors": None}, ["out"], mode="max"
        )


@pytest.mark.parametrize(
    ("features", "neighbors", "name", "dtype"),
    [
        (np.float64, I32, "features", "double"),
        (I32, I32, "features", "int32"),
        (F32, I64, "neighbors", "int64"),
    ],
)
def test_element_type_is_refused_at_session_creation(operators, features, neighbors, name, dtype):
    inputs = {"features": zeros(features, 1, 1), "neighbors": zeros(neighbors, 1, 1)}
    with pytest.raises(Exception, match=rf"tensor\({dtype}\).*\({name}\).*\(SparsePool\)"):
        operators.run("SparsePool", inputs, ["out"], mode="max")


def test_a_refused_call_leaves_the_session_whole(operators):
    node = operators.node("GatherRows", ["x", "row"], ["y"])
    x = np.arange(8, dtype=F32).reshape(4, 2)
    session = operators.session(operators.model([node], {"x": x, "row": zeros(I32, 1)}, ["y"]))
    with pytest.raises(InvalidArgument):
        session.run(None, {"x": x, "row": np.array([9], I32)})
    (y,) = session.run(None, {"x": x, "row": np.array([3], I32)})
    np.testing.assert_array_equal(y, x[3:])
