# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""What CUDA kernels refuse inside ONNX Runtime: the CPU's cases, in the CPU's words.

A value that only the GPU sees is an error where the operator waits for the GPU anyway; elsewhere it
leads nowhere out of bounds, and the session goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from tests.ops import test_onnx_operators_errors as on_cpu
from tests.ops.conftest import Array, OnnxOperators
from tests.ops.test_onnx_operators_errors import (
    test_attribute_is_refused_at_session_creation as test_attribute,  # noqa: F401
)
from tests.ops.test_onnx_operators_errors import (
    test_bad_constant_weight_is_refused_at_session_creation as test_bad_weight,  # noqa: F401
)
from tests.ops.test_onnx_operators_errors import (
    test_limit_is_an_error_not_a_killed_process as test_limit,  # noqa: F401
)
from tests.ops.test_onnx_operators_errors import (
    test_limits_carry_their_own_words as test_words_of_limits,  # noqa: F401
)
from tests.ops.test_onnx_operators_errors import (
    test_missing_required_input_is_refused as test_missing_input,  # noqa: F401
)

UNSEEN = ("SubmanifoldRulebook", "SparseConv", "GatherRows", "SparseGlobalPool")
SEEN_VALUES = [case for case in on_cpu.VALUE_ERRORS if case[0] not in UNSEEN]
UNSEEN_VALUES = [case for case in on_cpu.VALUE_ERRORS if case[0] in UNSEEN]


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(Exception) as raised:  # noqa: PT011 - ONNX Runtime's share no base
        call()
    return str(raised.value)


def expect_same_refusal(
    operators: OnnxOperators,
    op_type: str,
    inputs: Mapping[str, Array | None],
    attributes: Mapping[str, Any],
) -> None:
    outputs = on_cpu.outputs_of(op_type)
    cpu, cuda = (
        refusal(lambda library=library: library.run(op_type, inputs, outputs, **attributes))
        for library in (OnnxOperators(), operators)
    )
    assert cuda == cpu


@pytest.mark.parametrize(("op_type", "inputs", "attributes", "message"), on_cpu.SHAPE_ERRORS)
def test_shapes_are_refused_in_the_same_words(operators, op_type, inputs, attributes, message):
    expect_same_refusal(operators, op_type, inputs, attributes)


@pytest.mark.parametrize(("op_type", "inputs", "attributes", "parts"), SEEN_VALUES)
def test_values_are_refused_in_the_same_words(operators, op_type, inputs, attributes, parts):
    expect_same_refusal(operators, op_type, inputs, attributes)


@pytest.mark.parametrize(("op_type", "inputs", "attributes", "parts"), UNSEEN_VALUES)
def test_values_that_only_the_gpu_sees_do_no_harm(operators, op_type, inputs, attributes, parts):
    outputs = on_cpu.outputs_of(op_type)
    (found,) = operators.run(op_type, inputs, outputs, **attributes)
    assert found.size > 0


def test_a_refused_call_leaves_the_session_whole(operators, sites):
    node = operators.node(
        "SortSites", ["raw"], ["coords", "order", "rank"], spatial_shape=[12, 17, 19]
    )
    raw = sites.coords(300, [12, 17, 19])
    session = operators.session(operators.model([node], {"raw": raw}, ["coords"]))
    for outside in ([0, 99, 0, 0], [-1, 0, 0, 0]):
        bad = np.concatenate([raw, np.array([outside], np.int32)])
        assert "node" in refusal(lambda bad=bad: session.run(None, {"raw": bad}))
        (coords,) = session.run(None, {"raw": raw[::-1].copy()})
        np.testing.assert_array_equal(coords, raw)
