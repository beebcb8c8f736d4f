# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Valid messages of clients and seeded ways to spoil them.

A message is held as its fields, so that a mutation can lie about one of them and leave the rest
readable: blind bit flips seldom get past the first length.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import numpy as np
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from tests.server.driver import chunks, frame, random_sites, voxels
from tests.server.models import GRID

from voxgate_protos import voxel_inference_pb2 as pb

# (number, wire type, value), where the value is an int, bytes or, of a message, its fields; or
# bytes that are no field at all.
Field: TypeAlias = "tuple[int, int, int | bytes | Fields] | bytes"
Fields: TypeAlias = "list[Field]"

VARINT, FIXED64, LENGTH_DELIMITED, START_GROUP, END_GROUP, FIXED32 = range(6)
EXTREMES = [
    0, 1, 2, 127, 128, 255, 256, 1000, 65535, 2**20, 2**31 - 1, 2**31, 2**32 - 1, 2**32,
    2**62, 2**63 - 1, 2**63, 2**64 - 2**31, 2**64 - 1,
]  # fmt: skip
BAD_TEXT = [b"", b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"a\0b", "é…\u202e".encode(), b"x" * 128]
BAD_TEXT += [b"x" * 129, b"9" * 5000, "\U0010ffff".encode() * 33]
FLOATS = [float("nan"), float("inf"), float("-inf"), 3.4e38, -0.0, 1e-45]
ID = b"<id>"


def varint(value: int, padding: int = 0) -> bytes:
    """`value` with `padding` bytes more than it needs."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    if padding:
        out[-1] |= 0x80
        out += b"\x80" * (padding - 1) + b"\0"
    return bytes(out)


def fields_of(message: Message) -> Fields:
    """The fields that are set, as they are written."""
    fields: Fields = []
    for field, value in message.ListFields():
        for item in value if field.is_repeated else [value]:
            if field.message_type is not None:
                fields.append((field.number, LENGTH_DELIMITED, fields_of(item)))
            elif field.type in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES):
                data = item.encode() if isinstance(item, str) else item
                fields.append((field.number, LENGTH_DELIMITED, data))
            else:
                fields.append((field.number, VARINT, int(item) % 2**64))
    return fields


def encoded(fields: Fields) -> bytes:
    return b"".join(_encoded(field) for field in fields)


def _encoded(field: Field, padding: tuple[int, int, int] = (0, 0, 0), lie: int = 0) -> bytes:
    """One field; `padding` of its tag, its length and its value, `lie` added to its length."""
    if isinstance(field, bytes):
        return field
    number, wire, value = field
    tag = varint(number << 3 | wire, padding[0])
    if isinstance(value, int):
        return tag + varint(value, padding[2])
    data = encoded(value) if isinstance(value, list) else value
    if wire != LENGTH_DELIMITED:
        return tag + data
    return tag + varint(max(0, len(data) + lie), padding[1]) + data


def copied(fields: Fields, frame_id: bytes) -> Fields:
    """A deep copy with `ID` replaced by a real one."""
    copy: Fields = []
    for field in fields:
        if isinstance(field, bytes):
            copy.append(field)
            continue
        number, wire, value = field
        if isinstance(value, list):
            value = copied(value, frame_id)
        copy.append((number, wire, frame_id if value == ID else value))
    return copy


# What is mutated ---------------------------------------------------------------------------------


def _points(rows: int, dtype: pb.DataType.ValueType, width: int) -> pb.PointCloud:
    values = np.random.default_rng(rows).uniform(0, 8, (rows, 4))
    data = values.astype(np.float16 if width == 2 else np.float32).tobytes()
    return pb.PointCloud(num_points=rows, num_fields=4, dtype=dtype, points=data)


def _payloads() -> Iterator[dict[str, Any]]:
    for count in (0, 1, 7, 40):
        coords, features = random_sites(count, seed=count)
        order = np.lexsort(coords.T[::-1])
        yield {"voxels": voxels(coords, features)}
        yield {"voxels": voxels(coords[order], features[order])}
        yield {"voxels": voxels(coords.astype(np.int16), features.astype(np.float16))}
        halves = features.view(np.uint16)[:, 1::2]  # the upper half of a float is its bfloat16
        assert halves.shape == features.shape
        changed = {"features_dtype": pb.BFLOAT16, "features": halves.tobytes()}
        yield {"voxels": voxels(coords, features, **changed)}
        yield {"points": _points(count, pb.FLOAT32, 4)}
        yield {"points": _points(count, pb.FLOAT16, 2)}
        yield {"points": _points(count, pb.BFLOAT16, 2)}


def _frames() -> Iterator[pb.Frame]:
    for payload in _payloads():
        sweep = pb.Frame(frame_id=ID.decode(), sensor_id="roof", **payload)
        sweep.captured_at.FromNanoseconds(1_700_000_000_123_456_789)
        yield sweep


def _chunked() -> Iterator[list[pb.StreamRequest]]:
    for count, sizes in ((6, [6]), (9, [4, 5]), (20, [1, 0, 19]), (12, [3, 3, 3, 3])):
        parts = chunks(frame(ID.decode(), count, count), sizes)
        yield [pb.StreamRequest(chunk=chunk) for chunk in parts]
        clouds = [pb.Frame(frame_id=ID.decode(), points=_points(n, pb.FLOAT32, 4)) for n in sizes]
        yield [
            pb.StreamRequest(chunk=pb.FrameChunk(part=part, index=i, last=i == len(sizes) - 1))
            for i, part in enumerate(clouds)
        ]


def _opens() -> Iterator[pb.StreamOpen]:
    yield pb.StreamOpen(model="voxels")
    for policy in (pb.FIFO, pb.LATEST):
        full = pb.StreamOpen(
            model="voxels",
            version="1",
            outputs=["score", "mean"],
            policy=policy,
            max_queued_frames=4,
            priority=-3,
            unordered=True,
        )
        full.frame_deadline.FromMilliseconds(1500)
        yield full


FRAMES = [[fields_of(pb.StreamRequest(frame=sweep))] for sweep in _frames()]
CHUNKED = [[fields_of(request) for request in requests] for requests in _chunked()]
CANCELS = [[fields_of(pb.StreamRequest(cancel_frame_id=ID.decode()))]]
OPENS = [[fields_of(pb.StreamRequest(open=request))] for request in _opens()]
INFERS = [
    fields_of(pb.InferRequest(model=model, version=version, frame=sweep, outputs=outputs))
    for sweep in _frames()
    for model, version, outputs in (("voxels", "", []), ("points", "1", ["norm"]))
]
_EVERYTHING = [
    fields for messages in (*FRAMES, *CHUNKED, *CANCELS, *OPENS, INFERS) for fields in messages
]


# How it is mutated -------------------------------------------------------------------------------


def mutated(source: random.Random, fields: Fields) -> bytes:
    """`fields`, which this changes, with one to four things wrong with them."""
    for _ in range(source.choice((0, 1, 1, 1, 1, 2, 3))):
        places = list(_containers(fields))
        source.choice(_FIELD_MUTATIONS)(source, source.choice(places))
    raw = bytearray(encoded(fields))
    unspoilt = source.random() < 0.6
    while not unspoilt:
        source.choice(_BYTE_MUTATIONS)(source, raw)
        unspoilt = source.random() < 0.7
    return bytes(raw)


def _containers(fields: Fields) -> Iterator[Fields]:
    yield fields
    for field in fields:
        if isinstance(field, tuple) and isinstance(field[2], list):
            yield from _containers(field[2])


def _place(source: random.Random, fields: Fields) -> int:
    return source.randrange(len(fields) + 1)


def _foreign(source: random.Random) -> Field:
    """A field of any message there is, which may have come from any depth."""
    while True:
        places = list(_containers(source.choice(_EVERYTHING)))
        fields = source.choice(places)
        if fields:
            return copied([source.choice(fields)], b"spliced")[0]


def _drop(source: random.Random, fields: Fields) -> None:
    if fields:
        del fields[source.randrange(len(fields))]


def _repeat(source: random.Random, fields: Fields) -> None:
    if fields:
        again = copied([source.choice(fields)], b"")[0]
        fields.insert(_place(source, fields), again)


def _shuffle(source: random.Random, fields: Fields) -> None:
    source.shuffle(fields)


def _splice(source: random.Random, fields: Fields) -> None:
    fields.insert(_place(source, fields), _foreign(source))


def _replace(source: random.Random, fields: Fields) -> None:
    if fields:
        fields[source.randrange(len(fields))] = _foreign(source)


def _swallow(source: random.Random, fields: Fields) -> None:
    """A message within itself: merged with what is there, or as deep as no one expects."""
    inner = copied(fields, b"")
    for _ in range(source.choice((1, 1, 3, 120))):
        inner = [(source.randrange(1, 8), LENGTH_DELIMITED, encoded(inner))]
    fields += inner


def _unknown(source: random.Random, fields: Fields) -> None:
    number = source.choice((0, 8, 15, 16, 1000, 19000, 2**28, 2**29 - 1, 2**29))
    wire = source.randrange(8)
    value: int | bytes = source.choice(EXTREMES)
    if wire in (FIXED64, FIXED32):
        value = bytes(8 if wire == FIXED64 else 4)
    elif wire == START_GROUP:
        value = _encoded((1, VARINT, 5)) + varint(number << 3 | END_GROUP)
    elif wire != VARINT:
        value = bytes(source.randrange(5))
    fields.insert(_place(source, fields), (number, wire, value))


def _change(change: Callable[[random.Random, int, int, Any], Field]) -> Any:
    """A mutation that makes another field of one that there is."""

    def mutate(source: random.Random, fields: Fields) -> None:
        places = [i for i, field in enumerate(fields) if isinstance(field, tuple)]
        if places:
            at = source.choice(places)
            fields[at] = change(source, *fields[at])  # type: ignore[misc]

    return mutate


@_change
def _renumber(source: random.Random, number: int, wire: int, value: Any) -> Field:
    return source.randrange(0, 9), wire, value


@_change
def _retype(source: random.Random, number: int, wire: int, value: Any) -> Field:
    return number, source.randrange(8), value


@_change
def _extreme(source: random.Random, number: int, wire: int, value: Any) -> Field:
    if isinstance(value, int):
        return number, wire, source.choice((*EXTREMES, value + 1, (value - 1) % 2**64))
    return number, VARINT, source.choice(EXTREMES)


@_change
def _enumerate(source: random.Random, number: int, wire: int, value: Any) -> Field:
    return number, wire, source.randrange(12) if wire == VARINT else value


@_change
def _overlong(source: random.Random, number: int, wire: int, value: Any) -> Field:
    padding = [0, 0, 0]
    padding[source.randrange(3)] = source.randrange(1, 12)
    return _encoded((number, wire, value), (padding[0], padding[1], padding[2]))


@_change
def _lie(source: random.Random, number: int, wire: int, value: Any) -> Field:
    lie = source.choice((-1, 1, -7, 7, 128, *EXTREMES))
    return _encoded((number, wire, value), lie=lie)


@_change
def _spoil_text(source: random.Random, number: int, wire: int, value: Any) -> Field:
    return number, LENGTH_DELIMITED, source.choice(BAD_TEXT)


@_change
def _spoil_array(source: random.Random, number: int, wire: int, value: Any) -> Field:
    """Numbers that no sensor sends, or a few bytes too many or too few."""
    if not isinstance(value, bytes):
        return number, wire, value
    data = bytearray(value)
    choice = source.randrange(6)
    if choice == 0:
        del data[source.randrange(len(data) + 1) :]
    elif choice == 1:
        data += bytes(source.choice((1, 2, 4, 12, 100)))
    elif choice == 2:
        data = data + data
    elif len(data) >= 4:
        at = source.randrange(len(data) // 4) * 4
        number_ = np.float32(source.choice(FLOATS)) if choice < 5 else np.int32(GRID[0])
        data[at : at + 4] = number_.tobytes()
    return number, wire, bytes(data)


_FIELD_MUTATIONS = [
    _drop, _repeat, _shuffle, _splice, _replace, _swallow, _unknown, _renumber, _retype, _extreme,
    _enumerate, _overlong, _lie, _spoil_text, _spoil_array, _spoil_array, _spoil_array,
]  # fmt: skip


def _flip(source: random.Random, raw: bytearray) -> None:
    for _ in range(source.choice((1, 1, 2, 8)) if raw else 0):
        # most of what is at the front says how the rest is read
        reach = len(raw) if source.random() < 0.5 else min(len(raw), 24)
        raw[source.randrange(reach)] ^= 1 << source.randrange(8)


def _overwrite(source: random.Random, raw: bytearray) -> None:
    if raw:
        raw[source.randrange(len(raw))] = source.choice((0, 1, 0x7F, 0x80, 0xFF))


def _truncate(source: random.Random, raw: bytearray) -> None:
    del raw[source.randrange(len(raw) + 1) :]


def _behead(source: random.Random, raw: bytearray) -> None:
    del raw[: source.randrange(len(raw) + 1)]


def _insert(source: random.Random, raw: bytearray) -> None:
    at = source.randrange(len(raw) + 1)
    raw[at:at] = source.randbytes(source.choice((1, 1, 2, 9)))


def _append(source: random.Random, raw: bytearray) -> None:
    """Another message behind this one: protobuf merges them."""
    raw += encoded(copied(source.choice(_EVERYTHING), b"appended"))


def _double(source: random.Random, raw: bytearray) -> None:
    at = source.randrange(len(raw) + 1)
    end = source.randrange(at, len(raw) + 1)
    raw[at:at] = raw[at:end]


def _scramble(source: random.Random, raw: bytearray) -> None:
    raw[:] = source.randbytes(source.randrange(64))


_BYTE_MUTATIONS = [
    _flip, _flip, _flip, _overwrite, _truncate, _behead, _insert, _append, _double, _scramble,
]  # fmt: skip
