# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Operators inside sessions: weights, absent tensors, threads, shape inference, real graphs."""

from __future__ import annotations

import concurrent.futures
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from voxgate_ops.schemas import OPERATORS, register_schemas

Array = NDArray[Any]
GRID = [12, 17, 19]


def value(name: str, dtype: int, *dims: int | str | None) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, dims)


@pytest.fixture
def layer(sites) -> dict[str, Array]:
    """The inputs of a submanifold 16 → 32 layer over 989 sites."""
    coords = sites.coords(989, GRID)
    return {
        "coords": coords,
        "features": sites.floats(989, 16),
        "weight": sites.floats(27, 16, 32),
        "bias": sites.floats(32),
        "residual": sites.floats(989, 32),
    }


def conv_nodes(operators: Any, *optional: str) -> list[onnx.NodeProto]:
    return [
        operators.node(
            "SubmanifoldRulebook",
            ["coords"],
            ["neighbors"],
            spatial_shape=GRID,
            kernel_size=[3, 3, 3],
        ),
        operators.node("SparseConv", ["features", "neighbors", "weight", *optional], ["y"]),
    ]


def run_conv(
    operators: Any, layer: dict[str, Array], *optional: str, constants: tuple[str, ...] = ()
) -> Array:
    used = {"coords", "features", "weight", *optional} - {""}
    inputs = {name: layer[name] for name in sorted(used - set(constants))}
    fixed = {name: layer[name] for name in constants}
    model = operators.model(conv_nodes(operators, *optional), inputs, ["y"], fixed)
    (y,) = operators.session(model).run(None, inputs)
    return y


def test_weight_may_be_constant_or_not(operators, layer):
    packed_once = run_conv(operators, layer, "bias", constants=("weight", "bias"))
    packed_per_call = run_conv(operators, layer, "bias")
    assert np.abs(packed_once).max() > 1
    assert packed_once.tobytes() == packed_per_call.tobytes()


@pytest.mark.parametrize("constants", [(), ("weight",)])
def test_absent_bias_and_residual_count_as_zero(operators, layer, constants):
    full = layer | {"bias": np.zeros(32, np.float32), "residual": np.zeros((989, 32), np.float32)}
    want = run_conv(operators, full, "bias", "residual", constants=constants)
    for optional in [(), ("bias",), ("", "residual"), ("", ""), ("bias", "")]:
        got = run_conv(operators, full, *optional, constants=constants)
        assert got.tobytes() == want.tobytes()
    with_residual = run_conv(operators, layer, "", "residual", constants=constants)
    np.testing.assert_allclose(with_residual, want + layer["residual"], rtol=1e-5, atol=1e-4)


def test_out_coords_may_be_absent_by_an_empty_name(operators, sites):
    coords = sites.coords(300, GRID)
    geometry = {"spatial_shape": GRID, "kernel_size": [3, 3, 3], "stride": [2, 2, 2]}
    outputs = ["out_coords", "neighbors"]
    omitted = operators.run("SparseRulebook", {"coords": coords}, outputs, **geometry)
    empty = operators.run(
        "SparseRulebook", {"coords": coords, "out_coords": None}, outputs, **geometry
    )
    for a, b in zip(omitted, empty, strict=True):
        np.testing.assert_array_equal(a, b)


def network(operators: Any, sites: Any) -> tuple[onnx.ModelProto, dict[str, Array]]:
    """SortSites → rulebooks → convolutions → pool → inverse → interpolation, all threaded."""
    nodes = [
        operators.node("SortSites", ["raw"], ["coords", "order", "rank"], spatial_shape=GRID),
        helper.make_node("Gather", ["raw_features", "order"], ["features"], axis=0),
        *conv_nodes(operators, "bias"),
        operators.node(
            "SparseRulebook",
            ["coords"],
            ["down", "down_neighbors"],
            spatial_shape=GRID,
            kernel_size=[3, 3, 3],
            stride=[2, 2, 2],
            padding=[1, 1, 1],
        ),
        operators.node("SparsePool", ["y", "down_neighbors"], ["pooled"], mode="avg"),
        operators.node("InverseRulebook", ["down_neighbors", "coords"], ["up_neighbors"]),
        operators.node("SparsePool", ["pooled", "up_neighbors"], ["up"], mode="sum"),
        operators.node("SparseUnion", ["coords", "up", "coords", "y"], ["c", "z"], mode="concat"),
        operators.node("SparseGlobalPool", ["z", "c", "batch_size"], ["frame"], mode="avg"),
    ]
    inputs = {
        "raw": sites.random.permutation(sites.coords(3000, GRID)),
        "raw_features": sites.floats(3000, 16),
        "batch_size": np.array(3),
    }
    fixed = {"weight": sites.floats(27, 16, 32), "bias": sites.floats(32)}
    return operators.model(nodes, inputs, ["z", "frame"], fixed), inputs


def answer(session: Any, inputs: dict[str, Array]) -> bytes:
    return b"".join(output.tobytes() for output in session.run(None, inputs))


def test_same_bytes_for_any_thread_count_and_run(operators, sites):
    model, inputs = network(operators, sites)
    sessions = [operators.session(model, threads) for threads in (1, 2, 4)]
    answers = {answer(session, inputs) for session in sessions for _ in range(3)}
    assert len(answers) == 1


@pytest.mark.parametrize("threads", [1, 2])
def test_eight_threads_may_run_one_session(operators, sites, threads):
    model, inputs = network(operators, sites)
    session = operators.session(model, threads)
    alone = answer(session, inputs)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: answer(session, inputs), range(40)))
    assert set(answers) == {alone}


def test_zero_sites_go_through_a_network(operators, sites):
    model, inputs = network(operators, sites)
    empty = {
        "raw": np.zeros((0, 4), np.int32),
        "raw_features": np.zeros((0, 16), np.float32),
        "batch_size": inputs["batch_size"],
    }
    z, frame = operators.session(model).run(None, empty)
    assert z.shape == (0, 64)
    np.testing.assert_array_equal(frame, np.zeros((3, 64), np.float32))


@pytest.mark.skipif(
    tuple(map(int, ort.__version__.split(".")[:2])) < (1, 24),
    reason="before 1.24 ONNX Runtime cannot infer shapes behind absent optional inputs",
)
def test_shapes_are_known_before_the_run(operators):
    """Ranks, channels and shared row counts reach the nodes behind a custom operator."""
    inputs = {
        "coords": value("coords", TensorProto.INT32, "sites", 4),
        "features": value("features", TensorProto.FLOAT, "sites", 16),
        "weight": value("weight", TensorProto.FLOAT, 27, 16, 32),
        "batch_size": value("batch_size", TensorProto.INT64),
    }
    nodes = [
        *conv_nodes(operators),
        operators.node("SparseToDense", ["coords", "y", "batch_size"], ["d"], spatial_shape=GRID),
        operators.node("DenseToSparse", ["d"], ["found", "found_features"]),
        operators.node("FindSites", ["coords", "found"], ["row"]),
        operators.node("GatherRows", ["found", "row"], ["rows"]),
        operators.node("SparseUnion", ["coords", "y", "coords", "y"], ["c", "sum"], mode="sum"),
        operators.node(
            "SparseUnion", ["coords", "y", "found", "found_features"], ["e", "cat"], mode="concat"
        ),
        helper.make_node("Relu", ["sum"], ["relu"]),
    ]
    outputs = ["neighbors", "y", "d", "found", "row", "rows", "relu", "cat"]
    session = operators.session(operators.model(nodes, inputs, outputs))
    shapes = {output.name: output.shape for output in session.get_outputs()}
    types = {output.name: output.type for output in session.get_outputs()}
    assert shapes["neighbors"] == [27, "sites"]
    assert shapes["y"] == ["sites", 32]
    assert shapes["d"][1:] == [32, *GRID]
    assert shapes["found"][1:] == [4]
    assert shapes["row"] == [shapes["found"][0]]
    assert shapes["rows"] == [shapes["row"][0], 4]
    assert shapes["relu"][1:] == [32]
    assert shapes["cat"][1:] == [64]
    assert types["rows"] == "tensor(int32)"
    # Counts that only the run can tell are distinct symbols.
    counts = [shapes["d"][0], shapes["found"][0], shapes["relu"][0], shapes["cat"][0]]
    assert len({"sites", *counts}) == 5


def legal_node(operators: Any, operator: Any) -> onnx.NodeProto:
    """A node with every required attribute of a schema and none of the others."""
    samples = {
        "spatial_shape": GRID,
        "kernel_size": [3, 3, 3],
        "point_range": [0.0, 0.0, 0.0, 8.0, 8.0, 8.0],
        "voxel_size": [1.0, 1.0, 1.0],
        "iou_threshold": 0.5,
    }
    attributes = {
        attribute.name: attribute.choices[0] if attribute.choices else samples[attribute.name]
        for attribute in operator.attributes
        if attribute.required
    }
    inputs = [tensor.name for tensor in operator.inputs]
    return operators.node(
        operator.name, inputs, [f"{tensor.name}_out" for tensor in operator.outputs], **attributes
    )


RANKS = {"dense": 5, "batch_size": 0}


@pytest.mark.parametrize("operator", OPERATORS, ids=lambda operator: operator.name)
def test_schema_and_operator_agree(operators, operator):
    """What the schema calls legal passes onnx.checker and makes a session; types come out alike."""
    register_schemas()
    types = {"int32": TensorProto.INT32, "int64": TensorProto.INT64}
    inputs = {
        tensor.name: value(
            tensor.name,
            types.get(tensor.dtype, TensorProto.FLOAT),
            *[None] * RANKS.get(tensor.name, len(tensor.shape)),
        )
        for tensor in operator.inputs
    }
    node = legal_node(operators, operator)
    model = operators.model([node], inputs, node.output)
    inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    onnx.checker.check_model(inferred)
    session = operators.session(model)
    expected = [
        f"tensor({'float' if t.dtype in ('T', 'float32') else t.dtype})" for t in operator.outputs
    ]
    assert [output.type for output in session.get_outputs()] == expected
