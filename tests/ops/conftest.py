# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""One-operator ONNX models, run through the operator library, and random sites to feed them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from voxgate_ops.session import operators_library

Array = NDArray[Any]
FATAL = 4  # log nothing: the error tests look at exceptions


class OnnxOperators:
    """Builds and runs models of `voxgate` operators.

    `rounds_once`: SparseConv on 16-bit floats is that on float32, rounded. Tensor cores have an
    order of summation of their own.
    """

    rounds_once = True

    def model(
        self,
        nodes: Sequence[onnx.NodeProto],
        inputs: Mapping[str, Array | onnx.ValueInfoProto],
        outputs: Sequence[str],
        constants: Mapping[str, Array] | None = None,
    ) -> onnx.ModelProto:
        """A model whose inputs take arrays of the given ones' type and rank, of any size."""
        for node in nodes if len(nodes) > 1 else []:
            node.name = node.output[0]  # ONNX Runtime wants them distinct
        infos = [
            value
            if isinstance(value, onnx.ValueInfoProto)
            else helper.make_tensor_value_info(
                name, helper.np_dtype_to_tensor_dtype(value.dtype), [None] * value.ndim
            )
            for name, value in inputs.items()
        ]
        graph = helper.make_graph(
            list(nodes),
            "graph",
            infos,
            [onnx.ValueInfoProto(name=name) for name in outputs],
            [numpy_helper.from_array(value, name) for name, value in (constants or {}).items()],
        )
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("voxgate", 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=9)

    def session(self, model: onnx.ModelProto, threads: int = 2) -> ort.InferenceSession:
        options = ort.SessionOptions()
        options.log_severity_level = FATAL
        options.intra_op_num_threads = threads
        options.register_custom_ops_library(os.fspath(operators_library()))
        return ort.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    def node(
        self,
        op_type: str,
        inputs: Sequence[str],
        outputs: Sequence[str],
        **attributes: Any,
    ) -> onnx.NodeProto:
        """A node named `node` (so that messages can be checked) of domain `voxgate`."""
        return helper.make_node(
            op_type, list(inputs), list(outputs), name="node", domain="voxgate", **attributes
        )

    def run(
        self,
        op_type: str,
        inputs: Mapping[str, Array | None],
        outputs: Sequence[str],
        *,
        threads: int = 2,
        constants: Sequence[str] = (),
        **attributes: Any,
    ) -> list[Array]:
        """Run one operator. None stands for an absent optional input; the inputs named in
        `constants` become initializers."""
        feeds = {name: x for name, x in inputs.items() if x is not None and name not in constants}
        names = [name if value is not None else "" for name, value in inputs.items()]
        fixed = {name: inputs[name] for name in constants}
        # An output may be called as an input is; in a graph it may not.
        results = [f"{name}_out" for name in outputs]
        node = self.node(op_type, names, results, **attributes)
        session = self.session(self.model([node], feeds, results, fixed), threads)
        return list(session.run(results, feeds))


@pytest.fixture(scope="session")
def operators() -> OnnxOperators:
    return OnnxOperators()


class Sites:
    """Random canonical sites and features; the batch index 1 of three is always empty."""

    def __init__(self, seed: int = 0) -> None:
        self.random = np.random.default_rng(seed)

    def coords(self, count: int, grid: Sequence[int]) -> Array:
        volume = int(np.prod(grid))
        key = np.sort(self.random.choice(2 * volume, count, replace=False))
        batch, cell = np.divmod(key, volume)
        columns = [2 * batch, *np.unravel_index(cell, tuple(grid))]
        return np.stack(columns, axis=1).astype(np.int32).reshape(count, 1 + len(grid))

    def floats(self, *shape: int) -> Array:
        return self.random.standard_normal(shape).astype(np.float32)


@pytest.fixture
def sites() -> Sites:
    return Sites()
