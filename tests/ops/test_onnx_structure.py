# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""A model without its weights is the same model otherwise, and is parsed in no time."""

from __future__ import annotations

import random
import time

import numpy as np
import onnx
import pytest
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper, numpy_helper

from voxgate_ops.onnx_structure import parse_structure


def model(rows: int) -> onnx.ModelProto:
    """Weights as raw bytes, as floats and in a constant; one keeps them in another file."""
    outside = TensorProto(name="outside", data_type=1, dims=[rows], data_location="EXTERNAL")
    outside.external_data.add(key="location", value="w.bin")
    typed = helper.make_tensor("typed", TensorProto.FLOAT, [rows], [0.5] * rows)
    raw = numpy_helper.from_array(np.ones((rows, 2), np.float32), "raw")
    inner = numpy_helper.from_array(np.ones((rows, 3), np.float32), "inner")
    nodes = [
        helper.make_node("Constant", [], ["c"], value=inner),
        helper.make_node("Add", ["x", "raw"], ["y"], doc_string="d" * 5000),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "g", [value("x", 1, [rows, 2])], [value("y", 1, [rows, 2])], [raw, typed, outside]
    )
    made = helper.make_model(graph)
    made.metadata_props.add(key="note", value="n" * 5000)
    return made


def without_data(whole: onnx.ModelProto) -> onnx.ModelProto:
    stripped = onnx.ModelProto()
    stripped.CopyFrom(whole)
    constant = stripped.graph.node[0].attribute[0].t
    for tensor in (*stripped.graph.initializer, constant):
        for field in ("raw_data", "float_data"):
            tensor.ClearField(field)
    return stripped


def test_large_tensors_have_everything_but_their_elements() -> None:
    whole = model(rows=2000)
    assert parse_structure(whole.SerializeToString()) == without_data(whole)


def test_small_models_are_whole() -> None:
    whole = model(rows=3)
    assert parse_structure(whole.SerializeToString()) == whole


def test_weights_cost_no_time() -> None:
    whole = onnx.ModelProto()
    whole.graph.initializer.add(name="w", raw_data=bytes(100 << 20))
    raw = whole.SerializeToString()
    started = time.thread_time()  # a thread of another test may be at work
    assert parse_structure(raw).graph.initializer[0].name == "w"
    assert time.thread_time() - started < 0.02


def test_broken_models_are_refused_as_protobuf_refuses_them() -> None:
    chance = random.Random(1)
    whole = model(rows=600).SerializeToString()
    for _ in range(500):
        raw = bytearray(whole)
        for _ in range(chance.randrange(1, 4)):
            raw[chance.choice((chance.randrange(len(raw)), chance.randrange(40)))] = (
                chance.randrange(256)
            )
        if chance.random() < 0.5:
            del raw[chance.randrange(len(raw)) :]
        try:
            onnx.ModelProto.FromString(bytes(raw))
        except DecodeError:
            with pytest.raises(DecodeError):
                parse_structure(bytes(raw))
        else:
            parse_structure(bytes(raw))
