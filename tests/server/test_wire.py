# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Cutting arrays out of messages never changes what protobuf would have made of them."""

from __future__ import annotations

import random
import time

import pytest
from google.protobuf.message import DecodeError, Message
from hypothesis import given
from hypothesis import strategies as st

from voxgate_ops.protobuf_wire import encode_varint
from voxgate_protos import voxel_inference_pb2 as pb
from voxgate_server.errors import InvalidRequest
from voxgate_server.wire import MAX_REST_BYTES, Parsed, parse

BIG = 5000


def voxel_frame(coords: bytes, features: bytes) -> pb.Frame:
    voxels = pb.SparseVoxels(num_sites=7, coords=coords, num_features=4, features=features)
    return pb.Frame(frame_id="a", sensor_id="roof", voxels=voxels)


def restored(parsed: Parsed[pb.StreamRequest]) -> pb.StreamRequest:
    """The message with its arrays put back."""
    message = pb.StreamRequest()
    message.CopyFrom(parsed.message)
    kind = message.WhichOneof("message")
    if kind in ("frame", "chunk"):
        frame = message.frame if kind == "frame" else message.chunk.part
        for name, view in parsed.arrays.items():
            payload = frame.points if name == "points" else frame.voxels
            setattr(payload, name, bytes(view))
    return message


def requests() -> st.SearchStrategy[pb.StreamRequest]:
    data = st.sampled_from([b"", b"\x0a\x02", bytes(100), b"\xff" * BIG])
    frames = st.one_of(
        st.builds(voxel_frame, data, data),
        st.builds(lambda points: pb.Frame(frame_id="b", points=pb.PointCloud(points=points)), data),
        st.just(pb.Frame(frame_id="c")),
    )
    chunks = st.builds(lambda part: pb.FrameChunk(part=part, index=3, last=True), frames)
    return st.one_of(
        st.builds(lambda frame: pb.StreamRequest(frame=frame), frames),
        st.builds(lambda chunk: pb.StreamRequest(chunk=chunk), chunks),
        st.just(pb.StreamRequest(cancel_frame_id="x" * BIG)),
    )


@given(requests())
def test_arrays_and_the_rest_are_what_was_sent(request: pb.StreamRequest) -> None:
    assert restored(parse(pb.StreamRequest, request.SerializeToString())) == request


def test_large_arrays_are_views_of_the_message() -> None:
    raw = pb.StreamRequest(frame=voxel_frame(b"c" * BIG, b"f" * BIG)).SerializeToString()
    parsed = parse(pb.StreamRequest, raw)
    assert {name: view.obj is raw for name, view in parsed.arrays.items()} == {
        "coords": True,
        "features": True,
    }
    assert parsed.message.frame.voxels.coords == b""


def test_a_whole_call_is_cut_too() -> None:
    request = pb.InferRequest(model="m", frame=voxel_frame(b"c" * BIG, b""), outputs=["o"])
    parsed = parse(pb.InferRequest, request.SerializeToString())
    assert bytes(parsed.arrays["coords"]) == b"c" * BIG
    assert list(parsed.message.outputs) == ["o"]


def joined(*pieces: Message) -> bytes:
    return b"".join(piece.SerializeToString() for piece in pieces)


@pytest.mark.parametrize(
    "raw",
    [
        # A submessage given twice is merged; of a oneof the last counts.
        joined(
            pb.StreamRequest(frame=voxel_frame(b"c" * BIG, b"")),
            pb.StreamRequest(frame=voxel_frame(b"", b"f" * BIG)),
        ),
        joined(
            pb.StreamRequest(frame=voxel_frame(b"c" * BIG, b"f")),
            pb.StreamRequest(chunk=pb.FrameChunk(part=voxel_frame(b"d" * BIG, b""))),
        ),
        joined(
            pb.StreamRequest(frame=voxel_frame(b"c" * BIG, b"f")),
            pb.StreamRequest(cancel_frame_id="a"),
        ),
        # An unknown field of every wire type in front.
        b"\xf8\x07\x05" + b"\xf9\x07" + bytes(8) + b"\xfd\x07" + bytes(4) + b"\xfa\x07\x02ab"
        + pb.StreamRequest(frame=voxel_frame(b"c" * BIG, b"f")).SerializeToString(),
    ],
)  # fmt: skip
def test_odd_but_legal_messages_mean_what_protobuf_says(raw: bytes) -> None:
    assert restored(parse(pb.StreamRequest, raw)) == pb.StreamRequest.FromString(raw)


def named(outputs: bytes) -> bytes:
    """An `open` with these bytes as its fields."""
    return b"\x0a" + encode_varint(len(outputs)) + outputs


@pytest.mark.parametrize(
    "raw",
    [
        b"\x78\x00" * (8 << 20),  # unknown fields
        named(b"\x1a\x00" * (8 << 20)),  # outputs with empty names
        pb.StreamRequest(cancel_frame_id="x" * (16 << 20)).SerializeToString(),
        joined(
            *[pb.StreamRequest(frame=voxel_frame(bytes(8 << 20), b""))] * 2,
        ),
    ],
    ids=["fields", "names", "string", "twice"],
)
def test_what_is_no_array_is_small_and_refused_without_parsing(raw: bytes) -> None:
    started = time.process_time()
    with pytest.raises(InvalidRequest, match=rf"limit is {MAX_REST_BYTES}"):
        parse(pb.StreamRequest, raw)
    assert time.process_time() - started < 0.1


def test_many_fields_in_a_small_message_are_parsed() -> None:
    raw = named(b"\x1a\x00" * 10_000)
    assert len(parse(pb.StreamRequest, raw).message.open.outputs) == 10_000


def test_unparsable_bytes_are_refused_with_their_size() -> None:
    with pytest.raises(InvalidRequest, match=f"message of {BIG} bytes: not parsable"):
        parse(pb.StreamRequest, b"\xff" * BIG)


def test_mutated_messages_mean_what_protobuf_says() -> None:
    random_ = random.Random(1)
    whole = pb.StreamRequest(frame=voxel_frame(b"c" * BIG, b"f" * BIG)).SerializeToString()
    heads = [at for at in range(len(whole)) if whole[at] not in b"cf"]
    for _ in range(5000):
        raw = bytearray(whole)
        for _ in range(random_.randrange(1, 4)):
            at = random_.choice(heads)
            raw[at] = random_.randrange(256)
        if random_.random() < 0.3:
            del raw[random_.randrange(len(raw)) :]
        try:
            expected = pb.StreamRequest.FromString(bytes(raw))
        except DecodeError:
            with pytest.raises(InvalidRequest):
                parse(pb.StreamRequest, bytes(raw))
        else:
            assert restored(parse(pb.StreamRequest, bytes(raw))) == expected


@pytest.mark.parametrize(("value", "data"), [(0, b"\0"), (127, b"\x7f"), (300, b"\xac\x02")])
def test_varints(value: int, data: bytes) -> None:
    assert encode_varint(value) == data
