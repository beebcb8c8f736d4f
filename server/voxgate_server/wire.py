# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Messages from clients, their arrays left where gRPC put them.

Protobuf copies a `bytes` field when it parses it and again whenever it is read. A sweep's arrays
are a megabyte, so they are cut out first: what is left is parsed by protobuf, and the arrays are
views of the message as it came.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Generic, TypeAlias, TypeVar

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError, Message

from voxgate_ops.protobuf_wire import (
    LENGTH_DELIMITED,
    IrregularBytes,
    encode_varint,
    read_varint,
    skip,
)
from voxgate_protos import voxel_inference_pb2 as pb
from voxgate_server.errors import InvalidRequest

M = TypeVar("M", bound=Message)

# Below this, cutting costs more than copying.
_MIN_CUT_BYTES = 4096
# Protobuf refuses tags and lengths that are written longer.
_MAX_HEAD_BYTES = 5
# Messages are parsed on the event loop. Beside its arrays none needs a hundredth of this; 100 MiB
# of empty strings would cost every stream seconds, and eight times their size in memory.
MAX_REST_BYTES = 1 << 16
_MAX_FIELDS = 256

Arrays: TypeAlias = Mapping[str, memoryview]
NO_ARRAYS: Arrays = {}


@dataclass(frozen=True, slots=True)
class Parsed(Generic[M]):
    """A message without the arrays in `arrays`, which are named after their fields."""

    message: M
    arrays: Arrays


def parse(kind: type[M], raw: bytes) -> Parsed[M]:
    """Parse a message.

    Raises:
        InvalidRequest: `raw` is no message of this kind, or one of over 64 KiB beside its arrays.
            Arrays that come twice, or after very many fields, count as no arrays.
    """
    arrays: dict[str, memoryview] = {}
    rest = raw
    if len(raw) >= _MIN_CUT_BYTES:
        try:
            rest = _cut(memoryview(raw), _layout(kind.DESCRIPTOR), arrays)
        except IrregularBytes:
            arrays, rest = {}, raw
    if len(rest) > MAX_REST_BYTES:
        raise InvalidRequest(
            f"message of {len(raw)} bytes: {len(rest)} of them are no array of voxels or points, "
            f"the limit is {MAX_REST_BYTES}"
        )
    try:
        return Parsed(kind.FromString(rest), arrays)
    except DecodeError as error:
        raise InvalidRequest(f"message of {len(raw)} bytes: not parsable: {error}") from error


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where in a message the arrays are: by field number, the name or the message that has them."""

    arrays: dict[int, str]
    messages: dict[int, _Layout]


_HAS_ARRAYS = {pb.SparseVoxels.DESCRIPTOR.full_name, pb.PointCloud.DESCRIPTOR.full_name}


@cache
def _layout(descriptor: Descriptor) -> _Layout:
    arrays: dict[int, str] = {}
    messages: dict[int, _Layout] = {}
    for field in descriptor.fields:
        if field.type == FieldDescriptor.TYPE_BYTES and descriptor.full_name in _HAS_ARRAYS:
            arrays[field.number] = field.name
        elif field.message_type is not None:
            inner = _layout(field.message_type)
            if inner.arrays or inner.messages:
                messages[field.number] = inner
    return _Layout(arrays, messages)


def _cut(view: memoryview, layout: _Layout, arrays: dict[str, memoryview]) -> bytes:
    """The message in `view` without its arrays, which go into `arrays`."""
    kept: list[Any] = []
    at, kept_from, fields = 0, 0, 0
    descended = False
    while at < len(view):
        fields += 1
        if fields > _MAX_FIELDS:
            raise IrregularBytes
        field_at = at
        tag, at = read_varint(view, at, _MAX_HEAD_BYTES)
        number, wire_type = tag >> 3, tag & 7
        if wire_type != LENGTH_DELIMITED:
            at = skip(view, at, wire_type)
            continue
        size, at = read_varint(view, at, _MAX_HEAD_BYTES)
        end = at + size
        if end > len(view):
            raise IrregularBytes
        if number in layout.arrays:
            if layout.arrays[number] in arrays:
                raise IrregularBytes  # given twice: protobuf knows which counts
            arrays[layout.arrays[number]] = view[at:end]
            kept.append(view[kept_from:field_at])
            kept_from = end
        elif number in layout.messages:
            if descended:
                raise IrregularBytes  # of a oneof, or given twice and to be merged
            descended = True
            inner = _cut(view[at:end], layout.messages[number], arrays)
            kept += (view[kept_from:field_at], encode_varint(tag), encode_varint(len(inner)), inner)
            kept_from = end
        at = end
    kept.append(view[kept_from:])
    return b"".join(kept)
