# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Operators on float16 and bfloat16: their float32 results rounded once, and close to float64."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper

from voxgate_ops import reference

Array = NDArray[Any]

GRID = [12, 17, 19]
FRAMES = 3
RELATIVE_TOLERANCE = 2e-2
TYPES = {
    "fp16": (TensorProto.FLOAT16, torch.float16),
    "bf16": (TensorProto.BFLOAT16, torch.bfloat16),
}
low_types = pytest.mark.parametrize("precision", TYPES)
every_size = pytest.mark.parametrize("count", [0, 1, 19, 989])


@dataclass
class Case:
    """An operator on some sites: `floats` names the inputs of type T, `define` is float64's."""

    op_type: str
    inputs: dict[str, Array]
    outputs: list[str]
    floats: Sequence[str]
    define: Callable[..., Any]
    attributes: dict[str, Any] = field(default_factory=dict)


def rounded(array: Array, precision: str) -> Array:
    """To the 16-bit type and back."""
    return torch.from_numpy(array).to(TYPES[precision][1]).float().numpy()


def run(
    operators: Any, case: Case, precision: str | None, constants: Sequence[str] = ()
) -> list[Array]:
    """The operator between two Casts; None: in float32, without."""
    if precision is None:
        return list(
            operators.run(
                case.op_type, case.inputs, case.outputs, constants=constants, **case.attributes
            )
        )
    element, low = TYPES[precision][0], {name: f"{name}_low" for name in case.floats}
    feeds = {name: x for name, x in case.inputs.items() if name not in constants}
    fixed = {name: case.inputs[name] for name in constants}
    results = [f"{name}_out" for name in case.outputs]
    nodes = [helper.make_node("Cast", [name], [cast], to=element) for name, cast in low.items()]
    nodes.append(
        operators.node(
            case.op_type, [low.get(name, name) for name in case.inputs], results, **case.attributes
        )
    )
    public = []
    for name, result in zip(case.outputs, results, strict=True):
        if name == "coords":
            public.append(result)
            continue
        public.append(f"{result}_wide")
        nodes.append(helper.make_node("Cast", [result], [public[-1]], to=TensorProto.FLOAT))
    session = operators.session(operators.model(nodes, feeds, public, fixed))
    return list(session.run(public, feeds))


def check(operators: Any, case: Case, precision: str, constants: Sequence[str] = ()) -> None:
    for name in case.floats:
        case.inputs[name] = rounded(case.inputs[name], precision)
    got = run(operators, case, precision, constants)
    exact = run(operators, case, None, constants)
    tensors = [
        torch.from_numpy(x).double() if name in case.floats else torch.from_numpy(x)
        for name, x in case.inputs.items()
    ]
    wanted = case.define(*tensors)
    wanted = wanted if isinstance(wanted, tuple) else (wanted,)
    for name, low, full, want in zip(case.outputs, got, exact, wanted, strict=True):
        if name == "coords":
            np.testing.assert_array_equal(low, want.numpy())
            continue
        if operators.rounds_once or case.op_type != "SparseConv":
            np.testing.assert_array_equal(low, rounded(full, precision))
        largest = float(want.abs().max()) if want.numel() else 0.0
        np.testing.assert_allclose(low, want.numpy(), rtol=0, atol=RELATIVE_TOLERANCE * largest)


def submanifold(coords: Array) -> Array:
    tensor = torch.from_numpy(coords)
    return reference.submanifold_rulebook(tensor, GRID, [3, 3, 3], [1, 1, 1]).numpy()


@low_types
@every_size
@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("constant", [False, True], ids=["given", "constant"])
def test_sparse_conv(operators, sites, precision, count, groups, constant):
    coords = sites.coords(count, GRID)
    inputs = {
        "features": sites.floats(count, 8),
        "neighbors": submanifold(coords),
        "weight": sites.floats(27, 8 // groups, 20),
        "bias": sites.floats(20),
        "residual": sites.floats(count, 20),
    }
    case = Case(
        "SparseConv",
        inputs,
        ["features"],
        ["features", "weight", "bias", "residual"],
        lambda x, n, w, b, r: reference.sparse_conv(x, n, w, b, r, groups, "silu"),
        {"groups": groups, "activation": "silu"},
    )
    check(operators, case, precision, ["weight", "bias"] if constant else [])


@low_types
@every_size
@pytest.mark.parametrize("mode", ["max", "avg", "sum"])
def test_pooling(operators, sites, precision, count, mode):
    coords = sites.coords(count, GRID)
    features = sites.floats(count, 5)
    pool = Case(
        "SparsePool",
        {"features": features, "neighbors": submanifold(coords)},
        ["features"],
        ["features"],
        lambda x, n: reference.sparse_pool(x, n, mode),
        {"mode": mode},
    )
    check(operators, pool, precision)
    overall = Case(
        "SparseGlobalPool",
        {"features": features, "coords": coords, "batch_size": np.array(FRAMES, np.int64)},
        ["pooled"],
        ["features"],
        lambda x, c, b: reference.sparse_global_pool(x, c, int(b), mode),
        {"mode": mode},
    )
    check(operators, overall, precision)


@low_types
@every_size
def test_dense_there_and_back(operators, sites, precision, count):
    coords = sites.coords(count, GRID)
    to_dense = Case(
        "SparseToDense",
        {
            "coords": coords,
            "features": sites.floats(count, 5),
            "batch_size": np.array(FRAMES, np.int64),
        },
        ["dense"],
        ["features"],
        lambda c, x, b: reference.sparse_to_dense(c, x, int(b), GRID),
        {"spatial_shape": GRID},
    )
    check(operators, to_dense, precision)
    # 0.3 lies between two 16-bit floats: the threshold is float32's.
    to_sparse = Case(
        "DenseToSparse",
        {"dense": sites.floats(2, 2, *GRID)},
        ["coords", "features"],
        ["dense"],
        lambda x: reference.dense_to_sparse(x, float(np.float32(0.3))),
        {"threshold": 0.3},
    )
    check(operators, to_sparse, precision)


@low_types
@every_size
@pytest.mark.parametrize("mode", ["sum", "concat"])
def test_sparse_union(operators, sites, precision, count, mode):
    case = Case(
        "SparseUnion",
        {
            "coords_a": sites.coords(count, GRID),
            "features_a": sites.floats(count, 5),
            "coords_b": sites.coords(500, GRID),
            "features_b": sites.floats(500, 5),
        },
        ["coords", "features"],
        ["features_a", "features_b"],
        lambda ca, a, cb, b: reference.sparse_union(ca, a, cb, b, mode),
        {"mode": mode},
    )
    check(operators, case, precision)


@low_types
@every_size
def test_gather_rows(operators, sites, precision, count):
    case = Case(
        "GatherRows",
        {
            "x": sites.floats(count, 5),
            "row": sites.random.integers(-1, max(count, 0), 700, dtype=np.int32),
        },
        ["y"],
        ["x"],
        lambda x, row: reference.gather_rows(x, row, 1 / 3),
        {"fill": 1 / 3},
    )
    check(operators, case, precision)


@low_types
@every_size
@pytest.mark.parametrize("mode", ["sum", "mean", "max", "first"])
def test_reduce_rows(operators, sites, precision, count, mode):
    case = Case(
        "ReduceRows",
        {
            "x": sites.floats(count, 5),
            "row": sites.random.integers(-1, 40, count, dtype=np.int32),
            "coords": sites.coords(40, GRID),
        },
        ["y"],
        ["x"],
        lambda x, row, coords: reference.reduce_rows(x, row, len(coords), mode),
        {"mode": mode},
    )
    check(operators, case, precision)


@low_types
@every_size
@pytest.mark.parametrize("mode", ["nearest", "trilinear"])
def test_sparse_interpolate(operators, sites, precision, count, mode):
    scale = np.array(GRID[::-1], np.float32)
    low, size = [0.0, 0.0, 0.0], [1.0, 1.0, 1.0]
    bounds = [*low, *(float(x) for x in GRID[::-1])]
    case = Case(
        "SparseInterpolate",
        {
            "features": sites.floats(count, 5),
            "coords": sites.coords(count, GRID),
            "points": sites.random.random((300, 3), np.float32) * scale,
            "point_batch": sites.random.integers(0, FRAMES, 300, dtype=np.int32),
        },
        ["sampled"],
        ["features"],
        lambda x, c, p, b: reference.sparse_interpolate(x, c, p, b, bounds, size, mode),
        {"point_range": bounds, "voxel_size": size, "mode": mode},
    )
    check(operators, case, precision)


@low_types
def test_values_out_of_the_ordinary(operators, precision):
    x = np.array([[np.nan], [np.inf], [-np.inf], [6e-8], [-3e-6], [-0.0], [65504.0]], np.float32)
    row = np.arange(len(x), dtype=np.int32)
    coords = np.zeros((len(x), 4), np.int32)
    case = Case(
        "ReduceRows",
        {"x": x, "row": row, "coords": coords},
        ["y"],
        ["x"],
        reference.reduce_rows,
        {"mode": "sum"},
    )
    (got,) = run(operators, case, precision)
    np.testing.assert_array_equal(got, rounded(x, precision))
    assert np.signbit(got[5, 0])


def test_half_overflows_to_infinity(operators):
    case = Case(
        "ReduceRows",
        {
            "x": np.full((2, 1), 60000, np.float32),
            "row": np.zeros(2, np.int32),
            "coords": np.zeros((1, 4), np.int32),
        },
        ["y"],
        ["x"],
        reference.reduce_rows,
        {"mode": "sum"},
    )
    assert run(operators, case, "fp16")[0].item() == np.inf
    assert run(operators, case, "bf16")[0].item() == 119808  # 120000 rounded


@low_types
def test_types_may_not_be_mixed(operators, precision):
    nodes = [
        helper.make_node("Cast", ["features"], ["low"], to=TYPES[precision][0]),
        operators.node("SparseConv", ["low", "neighbors", "weight"], ["out"]),
    ]
    inputs = {
        "features": np.zeros((2, 3), np.float32),
        "neighbors": np.zeros((1, 2), np.int32),
        "weight": np.zeros((1, 3, 4), np.float32),
    }
    with pytest.raises(Exception, match=r"weight|Type"):
        operators.session(operators.model(nodes, inputs, ["out"]))
