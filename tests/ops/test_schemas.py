# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""The operator set as onnx sees it, and its documentation."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import defs

from voxgate_ops import operator_docs, schemas

EXPECTED = {
    "SortSites", "Voxelize", "SubmanifoldRulebook", "SparseRulebook", "InverseRulebook",
    "SparseConv", "SparsePool", "SparseGlobalPool", "SparseToDense", "DenseToSparse",
    "SparseUnion", "FindSites", "GatherRows", "ReduceRows", "SparseInterpolate", "RotatedNms",
}  # fmt: skip

HEADER = '<ir_version: 10, opset_import: ["": 20, "voxgate": 1]>'


def graph(text: str) -> onnx.ModelProto:
    schemas.register_schemas()
    return onnx.parser.parse_model(f"{HEADER} {text}")


def shape_of(model: onnx.ModelProto, output: int = 0) -> list[int | str]:
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    dims = inferred.graph.output[output].type.tensor_type.shape.dim
    return [dim.dim_value if dim.HasField("dim_value") else dim.dim_param for dim in dims]


def test_every_operator_is_registered_once() -> None:
    schemas.register_schemas()
    schemas.register_schemas()
    assert {operator.name for operator in schemas.OPERATORS} == EXPECTED
    for name in EXPECTED:
        assert defs.get_schema(name, 1, "voxgate").since_version == 1


def test_defaults_and_required_attributes() -> None:
    schemas.register_schemas()
    conv = defs.get_schema("SparseConv", 1, "voxgate").attributes
    assert conv["groups"].default_value.i == 1
    assert conv["activation"].default_value.s == b"none"
    assert conv["alpha"].default_value.f == pytest.approx(0.01)
    rulebook = defs.get_schema("SparseRulebook", 1, "voxgate").attributes
    assert rulebook["kernel_size"].required
    assert not rulebook["stride"].required


def test_checker_refuses_an_unknown_attribute_and_a_missing_one() -> None:
    with pytest.raises(onnx.checker.ValidationError, match="kernel"):
        onnx.checker.check_model(
            graph(
                "g (int32[N, 4] c) => (int32[K, N] n)"
                "{ n = voxgate.SubmanifoldRulebook <kernel = [3, 3, 3], spatial_shape = [8, 8, 8],"
                " kernel_size = [3, 3, 3]> (c) }"
            )
        )
    with pytest.raises(onnx.checker.ValidationError, match="spatial_shape"):
        onnx.checker.check_model(
            graph(
                "g (int32[N, 4] c) => (int32[K, N] n)"
                "{ n = voxgate.SubmanifoldRulebook <kernel_size = [3, 3, 3]> (c) }"
            )
        )


def test_checker_refuses_a_wrong_type() -> None:
    model = graph(
        "g (int64[N, 4] c) => (int32[K, N] n) { n = voxgate.SubmanifoldRulebook"
        " <kernel_size = [3, 3, 3], spatial_shape = [8, 8, 8]> (c) }"
    )
    with pytest.raises(onnx.shape_inference.InferenceError, match="int64"):
        onnx.checker.check_model(model, full_check=True)


def test_shape_inference_binds_symbols() -> None:
    rulebook = graph(
        "g (int32[N, 4] c) => (int32[K, N] n) { n = voxgate.SubmanifoldRulebook"
        " <kernel_size = [3, 1, 3], spatial_shape = [8, 8, 8]> (c) }"
    )
    assert shape_of(rulebook) == [9, "N"]
    dense = graph(
        "g (int32[N, 4] c, float[N, 16] f, int64 b) => (float[] d) { d ="
        " voxgate.SparseToDense <spatial_shape = [2, 5, 7]> (c, f, b) }"
    )
    dense.graph.output[0].type.tensor_type.ClearField("shape")
    assert shape_of(dense)[1:] == [16, 2, 5, 7]
    conv = graph(
        "g (float[N, 4] f, int32[27, M] n, float[27, 4, 32] w) => (float[A, B] y)"
        "{ y = voxgate.SparseConv (f, n, w) }"
    )
    assert shape_of(conv)[1] == 32


def test_shape_inference_refuses_a_wrong_rank() -> None:
    model = graph(
        "g (float[N] f, int32[27, M] n, float[27, 4, 32] w) => (float[A, B] y)"
        "{ y = voxgate.SparseConv (f, n, w) }"
    )
    with pytest.raises(Exception, match="features has 1 dimensions"):
        onnx.shape_inference.infer_shapes(model, strict_mode=True)


def test_documentation_is_current(repository: Path) -> None:
    committed = (repository / "docs" / "operators.md").read_text(encoding="utf-8")
    assert committed == operator_docs.render(), (
        "run: python -m voxgate_ops.operator_docs docs/operators.md"
    )
    for name in EXPECTED:
        assert f"## {name}\n" in committed
