# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Protobuf's wire format, as far as cutting large fields out of a message takes."""

from __future__ import annotations

LENGTH_DELIMITED = 2
_VARINT = 0
_FIXED_BYTES = {1: 8, 5: 4}
_MAX_VARINT_BYTES = 10


class IrregularBytes(Exception):
    """Bytes that only protobuf itself should judge."""


def read_varint(view: memoryview, at: int, max_bytes: int = _MAX_VARINT_BYTES) -> tuple[int, int]:
    """The number at `at`, and where it ends. Raises IrregularBytes: there is none."""
    value, shift = 0, 0
    for byte in view[at : at + max_bytes]:
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise IrregularBytes


def encode_varint(value: int) -> bytes:
    """`value` >= 0 as protobuf writes it."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def skip(view: memoryview, at: int, wire_type: int) -> int:
    """Where the field ends whose value, no length-delimited one, begins at `at`.

    Raises:
        IrregularBytes: it is cut off, or of another kind.
    """
    if wire_type == _VARINT:
        return read_varint(view, at)[1]
    if wire_type not in _FIXED_BYTES or at + _FIXED_BYTES[wire_type] > len(view):
        raise IrregularBytes
    return at + _FIXED_BYTES[wire_type]
