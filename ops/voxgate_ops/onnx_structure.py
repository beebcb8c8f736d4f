# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""ONNX models without the bytes of their weights, for whoever asks only what is in them.

Protobuf parses with Python's lock held, and copies: 300 MB of weights would stop every other thread
of a server for a second.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any, TypeAlias

import onnx

from voxgate_ops.protobuf_wire import (
    LENGTH_DELIMITED,
    IrregularBytes,
    encode_varint,
    read_varint,
    skip,
)

_Layout: TypeAlias = "Mapping[int, _Layout | None]"

# Below this, a message is parsed faster than it is looked into.
_MIN_CUT_BYTES = 4096


def _number(descriptor: Any, field: str) -> int:
    number: int = descriptor.fields_by_name[field].number
    return number


_DATA: _Layout = {
    _number(onnx.TensorProto.DESCRIPTOR, f"{kind}_data"): None
    for kind in ("raw", "float", "double", "int32", "int64", "uint64")
}
_MODEL: _Layout = {
    _number(onnx.ModelProto.DESCRIPTOR, "graph"): {
        _number(onnx.GraphProto.DESCRIPTOR, "initializer"): _DATA,
        _number(onnx.GraphProto.DESCRIPTOR, "node"): {
            _number(onnx.NodeProto.DESCRIPTOR, "attribute"): {
                _number(onnx.AttributeProto.DESCRIPTOR, "t"): _DATA
            }
        },
    }
}


def parse_structure(raw: bytes) -> onnx.ModelProto:
    """The model in `raw`, its large tensors without their elements.

    Names, types, dims and where data lies in other files are all there.

    Raises:
        google.protobuf.message.DecodeError: `raw` is no ONNX model.
    """
    with contextlib.suppress(IrregularBytes):
        raw = _cut(memoryview(raw), _MODEL)
    return onnx.ModelProto.FromString(raw)


def _cut(view: memoryview, layout: _Layout) -> bytes:
    """The message in `view` without the large fields that `layout` has as None."""
    kept: list[Any] = []
    at, kept_from = 0, 0
    while at < len(view):
        field_at = at
        tag, at = read_varint(view, at)
        number, wire_type = tag >> 3, tag & 7
        if wire_type != LENGTH_DELIMITED:
            at = skip(view, at, wire_type)
            continue
        size, at = read_varint(view, at)
        start, at = at, at + size
        if at > len(view):
            raise IrregularBytes
        if size < _MIN_CUT_BYTES or number not in layout:
            continue
        kept.append(view[kept_from:field_at])
        kept_from = at
        inner = layout[number]
        if inner is not None:
            message = _cut(view[start:at], inner)
            kept += (encode_varint(tag), encode_varint(len(message)), message)
    kept.append(view[kept_from:])
    return b"".join(kept)
