# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Graph passes: fold and fuse what follows a SparseConv into it, share equal rulebooks, tidy up.

A fusion needs the convolution's output to have one reader and no activation yet, since SparseConv
computes act(bias + residual + sum) in that order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxscript.optimizer
from onnx_ir.passes import common

from voxgate_ops.schemas import DOMAIN

_NO_LIMIT = 2**62
_WEIGHT, _BIAS, _RESIDUAL = 2, 3, 4  # inputs of SparseConv
_ACTIVATIONS = {"Relu": "relu", "LeakyRelu": "leaky_relu", "Sigmoid": "sigmoid", "Gelu": "gelu"}
_ONNX_LEAKY_RELU_ALPHA = 0.01


def simplify(model: ir.Model) -> None:
    """Fold constants, fuse into SparseConv, share equal nodes and drop what nobody reads."""
    _fold_constants(model)
    _share(model)
    while any(_rewrite_first(model.graph, rule) for rule in _RULES):
        pass
    for node in list(model.graph):
        if node.op_type == "BatchNormalization":
            _lower_batch_norm(model.graph, node)
    _fold_constants(model)
    _share(model)


def _fold_constants(model: ir.Model) -> None:
    # Weights reach SparseConv through a transposition; without limits it is done here, once.
    onnxscript.optimizer.optimize_ir(
        model, input_size_limit=_NO_LIMIT, output_size_limit=_NO_LIMIT, onnx_shape_inference=False
    )


def _share(model: ir.Model) -> None:
    """Equal nodes become one, so equal rulebooks do; names of layers play no part in it."""
    ir.passes.Sequential(
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        common.DeduplicateInitializersPass(size_limit=_NO_LIMIT),
        common.CommonSubexpressionEliminationPass(),
        common.IdentityEliminationPass(),
        common.RemoveUnusedNodesPass(),
        common.TopologicalSortPass(),
    )(model)


def _rewrite_first(graph: ir.Graph, rule: Callable[[ir.Graph, ir.Node], bool]) -> bool:
    return any(rule(graph, node) for node in list(graph))


# --- rules: each looks at a node that may follow a SparseConv ------------------------------------


def _fold_batch_norm(graph: ir.Graph, node: ir.Node) -> bool:
    if node.op_type != "BatchNormalization" or node.domain:
        return False
    conv = _open_conv(node.inputs[0])
    affine = _batch_norm_affine(node)
    if conv is None or affine is None:
        return False
    return _fold_affine(graph, conv, node, *affine)


def _fold_constant_operand(graph: ir.Graph, node: ir.Node) -> bool:
    """A constant added to, or multiplied with, every row."""
    if node.op_type not in ("Add", "Sub", "Mul", "Div") or node.domain:
        return False
    left, right = node.inputs
    if node.op_type in ("Add", "Mul") and _open_conv(left) is None:
        left, right = right, left
    conv, constant = _open_conv(left), _constant(right)
    if conv is None or constant is None or not _is_channelwise(constant, conv):
        return False
    channels = _channels(conv)
    value = np.broadcast_to(constant.astype(np.float64).reshape(-1), (channels,))
    if node.op_type == "Add":
        return _fold_affine(graph, conv, node, np.ones(channels), value)
    if node.op_type == "Sub":
        return _fold_affine(graph, conv, node, np.ones(channels), -value)
    if node.op_type == "Mul":
        return _fold_affine(graph, conv, node, value, np.zeros(channels))
    return bool(np.all(value != 0)) and _fold_affine(
        graph, conv, node, 1.0 / value, np.zeros(channels)
    )


def _fuse_residual(graph: ir.Graph, node: ir.Node) -> bool:
    if node.op_type != "Add" or node.domain:
        return False
    position = {id(other): index for index, other in enumerate(graph)}

    def age(value: ir.Value | None) -> int:
        producer = None if value is None else value.producer()
        return -1 if producer is None else position[id(producer)]

    # Of two convolutions the later one: the earlier one's output is there when it runs.
    for added_to, residual in sorted(
        (tuple(node.inputs), tuple(node.inputs)[::-1]), key=lambda pair: -age(pair[0])
    ):
        conv = _open_conv(added_to)
        if conv is None or residual is None or residual is added_to:
            continue
        if not _has_rows_of(residual, conv):
            continue
        inputs = _padded_inputs(conv)
        inputs[_RESIDUAL] = residual
        _replace(graph, [conv, node], _conv_like(conv, inputs), node.outputs[0])
        return True
    return False


def _fuse_activation(graph: ir.Graph, node: ir.Node) -> bool:
    if node.op_type not in _ACTIVATIONS or node.domain:
        return False
    conv = _open_conv(node.inputs[0], residual_allowed=True)
    if conv is None:
        return False
    attributes: dict[str, Any] = {"activation": _ACTIVATIONS[node.op_type]}
    if node.op_type == "LeakyRelu":
        alpha = node.attributes.get("alpha")
        attributes["alpha"] = _ONNX_LEAKY_RELU_ALPHA if alpha is None else alpha.as_float()
    approximate = node.attributes.get("approximate")
    if approximate is not None and approximate.as_string() != "none":
        return False
    _replace(graph, [conv, node], _conv_like(conv, conv.inputs, attributes), node.outputs[0])
    return True


def _fuse_silu(graph: ir.Graph, node: ir.Node) -> bool:
    """x · sigmoid(x), which is how torch writes SiLU in ONNX."""
    if node.op_type != "Mul" or node.domain:
        return False
    for x, gate in (tuple(node.inputs), tuple(node.inputs)[::-1]):
        sigmoid = None if gate is None else gate.producer()
        if x is None or sigmoid is None or sigmoid.op_type != "Sigmoid" or sigmoid.domain:
            continue
        if sigmoid.inputs[0] is not x or not _has_one_reader(sigmoid.outputs[0]):
            continue
        conv = _open_conv(x, residual_allowed=True, readers=2)
        if conv is None:
            continue
        fused = _conv_like(conv, conv.inputs, {"activation": "silu"})
        _replace(graph, [conv, sigmoid, node], fused, node.outputs[0])
        return True
    return False


_RULES = (_fold_batch_norm, _fold_constant_operand, _fuse_silu, _fuse_residual, _fuse_activation)


# --- what the rules share -------------------------------------------------------------------------


def _open_conv(
    value: ir.Value | None, residual_allowed: bool = False, readers: int = 1
) -> ir.Node | None:
    """The SparseConv that makes `value`, if something may still be fused into it."""
    node = None if value is None else value.producer()
    if value is None or node is None or (node.domain, node.op_type) != (DOMAIN, "SparseConv"):
        return None
    if value.is_graph_output() or len(value.uses()) != readers:
        return None
    if _attribute(node, "activation", "none") != "none":
        return None
    if not residual_allowed and _padded_inputs(node)[_RESIDUAL] is not None:
        return None
    return node


def _has_one_reader(value: ir.Value) -> bool:
    return not value.is_graph_output() and len(value.uses()) == 1


def _attribute(node: ir.Node, name: str, default: Any) -> Any:
    attribute = node.attributes.get(name)
    return default if attribute is None else attribute.value


def _constant(value: ir.Value | None) -> np.ndarray[Any, Any] | None:
    tensor = None if value is None else ir.convenience.get_const_tensor(value)
    return None if tensor is None else tensor.numpy()


def _padded_inputs(conv: ir.Node) -> list[ir.Value | None]:
    return [*conv.inputs, None, None][: _RESIDUAL + 1]


def _channels(conv: ir.Node) -> int:
    """Output channels, 0 when unknown."""
    weight = conv.inputs[_WEIGHT]
    last = None if weight is None or weight.shape is None else weight.shape[-1]
    return last if isinstance(last, int) else 0


def _is_channelwise(constant: np.ndarray[Any, Any], conv: ir.Node) -> bool:
    channels = _channels(conv)
    leading = constant.shape[:-1]
    return (
        channels > 0
        and constant.ndim <= 2
        and all(size == 1 for size in leading)
        and constant.size in (1, channels)
    )


def _has_rows_of(value: ir.Value, conv: ir.Node) -> bool:
    """Whether `value` is [M, Co] as the convolution's output is, and not broadcast to it.

    torch let the addition pass with a row count it did not know, so an unknown one is the same.
    """
    shape = value.shape
    return (
        shape is not None
        and len(shape) == 2
        and shape[1] == _channels(conv)
        and not isinstance(shape[0], int)
    )


def _batch_norm_affine(
    node: ir.Node,
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]] | None:
    """x·scale + shift in float64."""
    constants = [_constant(value) for value in node.inputs[1:5]]
    if any(constant is None for constant in constants):
        return None
    gamma, beta, mean, variance = (
        constant.astype(np.float64) for constant in constants if constant is not None
    )
    scale = gamma / np.sqrt(variance + float(_attribute(node, "epsilon", 1e-5)))
    return scale, beta - mean * scale


def _fold_affine(
    graph: ir.Graph,
    conv: ir.Node,
    node: ir.Node,
    scale: np.ndarray[Any, Any],
    shift: np.ndarray[Any, Any],
) -> bool:
    """Replace `node`, which computes conv·scale + shift per channel."""
    inputs = _padded_inputs(conv)
    weight = _constant(inputs[_WEIGHT])
    bias = _constant(inputs[_BIAS])
    if weight is None or (bias is None and inputs[_BIAS] is not None):
        return False
    old_bias = np.zeros(weight.shape[-1]) if bias is None else bias.astype(np.float64)
    name = inputs[_WEIGHT].name  # type: ignore[union-attr]
    if np.any(scale != 1.0):
        folded = (weight.astype(np.float64) * scale).astype(np.float32)
        inputs[_WEIGHT] = add_initializer(graph, f"{name}.folded", folded)
    new_bias = (old_bias * scale + shift).astype(np.float32)
    inputs[_BIAS] = add_initializer(graph, f"{name}.bias", new_bias)
    _replace(graph, [conv, node], _conv_like(conv, inputs), node.outputs[0])
    return True


def _lower_batch_norm(graph: ir.Graph, node: ir.Node) -> None:
    """What no convolution took becomes Mul and Add, if it is over rows.

    A dense one is left to ONNX Runtime, which folds it into the dense convolution before it.
    """
    x = node.inputs[0]
    affine = _batch_norm_affine(node)
    if x is None or x.shape is None or len(x.shape) != 2 or affine is None:
        return
    scale, shift = (part.astype(np.float32) for part in affine)
    stem = node.outputs[0].name
    scaled = ir.node("Mul", [x, add_initializer(graph, f"{stem}.scale", scale)])
    scaled.outputs[0].name = f"{stem}.scaled"
    scaled.outputs[0].type, scaled.outputs[0].shape = x.type, x.shape
    shifted = ir.node("Add", [scaled.outputs[0], add_initializer(graph, f"{stem}.shift", shift)])
    ir.convenience.replace_nodes_and_values(
        graph, node, [node], [scaled, shifted], [node.outputs[0]], [shifted.outputs[0]]
    )


def add_initializer(graph: ir.Graph, name: str, array: np.ndarray[Any, Any]) -> ir.Value:
    """A new initializer that holds `array`, named `name` or, where that is taken, `name.2`."""
    unique = name
    suffix = 1
    while unique in graph.initializers:
        suffix += 1
        unique = f"{name}.{suffix}"
    array = np.ascontiguousarray(array)
    tensor = ir.tensor(array, name=unique)
    value = ir.Value(
        name=unique,
        type=ir.TensorType(tensor.dtype),
        shape=ir.Shape(array.shape),
        const_value=tensor,
    )
    graph.register_initializer(value)
    return value


def _conv_like(
    conv: ir.Node,
    inputs: Sequence[ir.Value | None],
    attributes: dict[str, Any] | None = None,
) -> ir.Node:
    merged = {name: attribute.value for name, attribute in conv.attributes.items()}
    merged.update(attributes or {})
    trimmed = list(inputs)
    while trimmed[-1] is None:
        trimmed.pop()
    return ir.node(
        "SparseConv",
        trimmed,
        merged,
        domain=DOMAIN,
        name=conv.name,
        metadata_props=dict(conv.metadata_props),  # which layer it is
    )


def _replace(graph: ir.Graph, old: Sequence[ir.Node], new: ir.Node, result: ir.Value) -> None:
    """Put `new` where the last of `old` stands; its output takes the place of `result`."""
    ir.convenience.replace_nodes_and_values(graph, old[-1], old, [new], [result], new.outputs)
