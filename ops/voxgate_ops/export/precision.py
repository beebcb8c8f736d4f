# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Makes a float32 graph compute its features in 16 bits. Inputs and outputs stay float32.

16 bit become the operators on features and, in float16, convolutions and matrix products, with
their weights, and what lies between them. float32 stay what leads to the first of them (points,
coords, anything made of them), what follows the last (decoding, scores, thresholds) and what
float16 is too narrow for. bfloat16 has kernels for little of standard ONNX: there only what moves
data joins the operators of `voxgate`. Casts stand where the two meet, one for each value.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import Any, Literal

import ml_dtypes
import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common
from onnxscript.rewriter import rewrite
from onnxscript.rewriter.rules.common import (
    fuse_batchnorm_into_conv_rule,
    fuse_batchnorm_into_conv_transpose_rule,
    fuse_batchnorm_into_gemm_rule,
)

from voxgate_ops.errors import ExportError
from voxgate_ops.export.fusion import add_initializer
from voxgate_ops.schemas import DOMAIN, OPERATORS, Tensor

LowPrecision = Literal["fp16", "bf16"]

_TYPES: dict[LowPrecision, ir.DataType] = {
    "fp16": ir.DataType.FLOAT16,
    "bf16": ir.DataType.BFLOAT16,
}
_NUMPY: dict[LowPrecision, Any] = {"fp16": np.float16, "bf16": ml_dtypes.bfloat16}
_LARGEST: dict[LowPrecision, float] = {"fp16": 65504.0, "bf16": float.fromhex("0x1.fep127")}
_OPERATORS = {operator.name: operator for operator in OPERATORS}

# These take the type of their input: rows of float32 stay float32.
_ROW_OPERATORS = ("GatherRows", "ReduceRows")
_WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
# Both of ONNX Runtime's providers move any type (docs/OperatorKernels.md of ONNX Runtime 1.31).
_MOVES = (
    *("Concat", "Flatten", "Gather", "Identity", "Reshape"),
    *("Slice", "Split", "Squeeze", "Transpose", "Unsqueeze"),
)
# Sums and powers overflow float16 long before float32; sampling positions need their digits, and
# ONNX Runtime's CUDA provider has no float16 kernel for them.
_KEEP_FLOAT = (
    *("BatchNormalization", "CumSum", "Exp", "GridSample", "Pow", "Range", "RoiAlign"),
    *("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceProd", "ReduceSum"),
    "ReduceSumSquare",
)
# Take any type without its meaning for the result.
_ANY_INPUT = ("Cast", "Shape", "Size")
_RESIZE_DATA = 0  # its other inputs are float32 by definition


def lower(model: ir.Model, precision: LowPrecision) -> None:
    """Rewrite `model`, whose floats are all float32.

    Raises:
        ExportError: a weight does not fit into the type; the message has its name and value.
    """
    rewrite(
        model,
        [
            fuse_batchnorm_into_conv_rule,
            fuse_batchnorm_into_conv_transpose_rule,
            fuse_batchnorm_into_gemm_rule,
        ],
    )
    _Lowering(model.graph, precision).run()
    common.RemoveUnusedNodesPass()(model)


class _Lowering:
    def __init__(self, graph: ir.Graph, precision: LowPrecision) -> None:
        self._graph = graph
        self._precision = precision
        self._type = _TYPES[precision]
        self._low_values: set[int] = set()
        self._initializers: dict[int, ir.Value] = {}
        self._casts: dict[tuple[int, ir.DataType], ir.Value] = {}

    def run(self) -> None:
        nodes = list(self._graph)
        before_heavy = self._nodes_before_heavy(nodes)
        low_nodes = set()
        for node in nodes:
            if self._is_low(node, id(node) in before_heavy):
                low_nodes.add(id(node))
                self._low_values.update(id(value) for value in _float_outputs(node))
        for node in ir.traversal.RecursiveGraphIterator(self._graph):
            if id(node) in low_nodes:
                self._give_low_inputs(node)
            elif node.domain or node.op_type not in _ANY_INPUT:
                self._give_float_inputs(node)
        self._give_float_outputs()

    # --- which nodes -----------------------------------------------------------------------------

    def _is_heavy(self, node: ir.Node) -> bool:
        """An operator whose work is worth 16 bits whatever type its data come in."""
        if node.domain == DOMAIN:
            return node.op_type not in _ROW_OPERATORS and bool(_feature_inputs(node))
        if node.domain or self._precision == "bf16":
            return False
        return node.op_type in _WEIGHTED and any(_constant(value) for value in node.inputs)

    def _nodes_before_heavy(self, nodes: Sequence[ir.Node]) -> set[int]:
        """Nodes from which data flow to a heavy one."""
        before: set[int] = set()
        for node in reversed(nodes):
            for value in node.outputs:
                for reader in value.consumers():
                    if id(reader) in before or self._is_heavy(reader):
                        before.add(id(node))
        return before

    def _is_low(self, node: ir.Node, before_heavy: bool) -> bool:
        if self._is_heavy(node):
            return True
        if node.op_type in _ANY_INPUT or len(_float_outputs(node)) != len(node.outputs):
            return False
        data = [v for i, v in _low_candidates(node) if v is not None and not _constant(v)]
        if not data or any(id(value) not in self._low_values for value in data):
            return False
        if node.domain == DOMAIN:
            return True
        if node.domain or any(_has_graph(attribute) for attribute in node.attributes.values()):
            return False
        if node.op_type in _MOVES:
            return self._constants_fit(node)
        return (
            self._precision == "fp16"
            and before_heavy
            and node.op_type not in _KEEP_FLOAT
            and self._constants_fit(node)
        )

    def _constants_fit(self, node: ir.Node) -> bool:
        return all(
            self._lost(value) is None
            for _, value in _low_candidates(node)
            if value is not None and _constant(value)
        )

    # --- their inputs and outputs ----------------------------------------------------------------

    def _give_low_inputs(self, node: ir.Node) -> None:
        for index, value in _low_candidates(node):
            if value is None or id(value) in self._low_values:
                continue
            low = self._low_initializer(node, index, value) if _constant(value) else None
            node.replace_input_with(index, low or self._cast(value, self._type))
        for value in _float_outputs(node):
            value.type = ir.TensorType(self._type)

    def _give_float_inputs(self, node: ir.Node) -> None:
        for index, value in enumerate(node.inputs):
            if value is not None and id(value) in self._low_values:
                node.replace_input_with(index, self._cast(value, ir.DataType.FLOAT))

    def _give_float_outputs(self) -> None:
        for index, value in enumerate(self._graph.outputs):
            if id(value) in self._low_values:
                self._graph.outputs[index] = self._cast(value, ir.DataType.FLOAT)

    def _cast(self, value: ir.Value, to: ir.DataType) -> ir.Value:
        """The value in another type, made once, where it is first there."""
        key = (id(value), to)
        if key not in self._casts:
            cast = ir.node("Cast", [value], {"to": to}, name=f"{value.name}.cast")
            result = cast.outputs[0]
            result.name = f"{value.name}.{to.name.lower()}"
            result.type, result.shape = ir.TensorType(to), value.shape
            producer = value.producer()
            if producer is None:
                self._graph.insert_before(self._graph[0], cast)
            else:
                self._graph.insert_after(producer, cast)
            self._casts[key] = result
        return self._casts[key]

    # --- weights ---------------------------------------------------------------------------------

    def _lost(self, value: ir.Value) -> float | None:
        """A finite number of a constant that is too large for the type."""
        wide = _array(value)
        with np.errstate(over="ignore"):
            lost = np.isfinite(wide) & ~np.isfinite(wide.astype(_NUMPY[self._precision]))
        return float(wide[lost].flat[0]) if lost.any() else None

    def _low_initializer(self, node: ir.Node, index: int, value: ir.Value) -> ir.Value:
        if id(value) in self._initializers:
            return self._initializers[id(value)]
        lost = self._lost(value)
        if lost is not None:
            largest = _LARGEST[self._precision]
            others = "bf16 or fp32" if self._precision == "fp16" else "fp32"
            raise ExportError(
                f"{_port_name(node, index)} of {node.op_type} {_layer(node)} holds {lost:g}, but "
                f"{self._type.name.lower()} ends at {largest:g}: export in {others}"
            )
        name = f"{value.name}.{self._type.name.lower()}"
        low = _array(value).astype(_NUMPY[self._precision])
        self._initializers[id(value)] = add_initializer(self._graph, name, low)
        return self._initializers[id(value)]


def _low_candidates(node: ir.Node) -> list[tuple[int, ir.Value | None]]:
    """The inputs that have the type of the node's features, with their places."""
    if node.domain == DOMAIN:
        return _feature_inputs(node)
    places = [_RESIZE_DATA] if node.op_type == "Resize" else range(len(node.inputs))
    return [(i, node.inputs[i]) for i in places if _is_float(node.inputs[i])]


def _feature_inputs(node: ir.Node) -> list[tuple[int, ir.Value | None]]:
    ports: Sequence[Tensor] = _OPERATORS[node.op_type].inputs
    return [
        (index, value)
        for index, (port, value) in enumerate(zip(ports, node.inputs, strict=False))
        if port.dtype == "T" and _is_float(value)
    ]


def _float_outputs(node: ir.Node) -> list[ir.Value]:
    """Outputs of the features' type; for operators of voxgate the ports that say so."""
    if node.domain == DOMAIN:
        ports = _OPERATORS[node.op_type].outputs
        pairs = zip(ports, node.outputs, strict=False)
        return [value for port, value in pairs if port.dtype == "T" and _is_float(value)]
    return [value for value in node.outputs if _is_float(value)]


def _port_name(node: ir.Node, index: int) -> str:
    if node.domain == DOMAIN:
        return _OPERATORS[node.op_type].inputs[index].name
    value = node.inputs[index]
    return "" if value is None else str(value.name)


def _layer(node: ir.Node) -> str:
    """The torch module a node comes from, as its state_dict calls it; else the node's name."""
    scopes = node.metadata_props.get("pkg.torch.onnx.name_scopes")
    path = ast.literal_eval(scopes)[-2:-1] if scopes else []
    return repr(path[0].removeprefix("network.") if path else node.name)


def _is_float(value: ir.Value | None) -> bool:
    return value is not None and value.dtype == ir.DataType.FLOAT


def _constant(value: ir.Value | None) -> bool:
    return value is not None and ir.convenience.get_const_tensor(value) is not None


def _array(value: ir.Value) -> np.ndarray[Any, Any]:
    tensor = ir.convenience.get_const_tensor(value)
    assert tensor is not None  # asked before
    return tensor.numpy()


def _has_graph(attribute: ir.Attr) -> bool:
    return attribute.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)
