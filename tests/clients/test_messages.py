# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Numpy to messages and back."""

from __future__ import annotations

from datetime import UTC, datetime

import grpc
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxgate_client import Frame, MessageError
from voxgate_client.frame_messages import chunk_messages, frame_message, frame_request, split_frame
from voxgate_client.messages import parse_model, parse_tensor, status_code
from voxgate_protos import voxel_inference_pb2 as pb

POINTS = np.arange(12, dtype=np.float32).reshape(3, 4)
COORDS = np.array([[0, 1, 2], [3, 4, 5]])


def test_points_are_sent_as_their_bytes() -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    message = frame_message(Frame(POINTS, frame_id="a", sensor_id="s", captured_at=moment))
    assert message.points.points == POINTS.astype("<f4").tobytes()
    assert (message.points.num_points, message.points.num_fields) == (3, 4)
    assert message.points.dtype == pb.FLOAT32
    assert message.captured_at.ToDatetime(UTC) == moment
    assert (message.frame_id, message.sensor_id) == ("a", "s")


@pytest.mark.parametrize("array", [POINTS[::-1], POINTS.T.copy().T, POINTS.astype(">f8")])
def test_any_layout_is_sent_row_major_little_endian(array: np.ndarray) -> None:
    message = frame_message(Frame(array, frame_id="a"))
    assert message.points.points == np.ascontiguousarray(array, "<f4").tobytes()


@pytest.mark.parametrize(
    "frame",
    [
        Frame(POINTS, frame_id="a", sensor_id="s", captured_at=datetime(2026, 1, 2, tzinfo=UTC)),
        Frame(POINTS.T, frame_id="a"),
        Frame(POINTS[:0], frame_id="a"),
        Frame(None, COORDS, POINTS[:2], "ä" * 60),
        Frame(None, COORDS * 70000, POINTS[:2, ::2].astype(np.float16), "a"),
        Frame(None, COORDS[:0], POINTS[:0], "a"),
        Frame(np.zeros((1 << 15, 4), np.float32), frame_id="a"),
    ],
)
def test_a_request_is_the_message_that_protobuf_would_write(frame: Frame) -> None:
    request = pb.StreamRequest.FromString(frame_request(frame))
    assert request == pb.StreamRequest(frame=frame_message(frame))


@pytest.mark.parametrize(
    ("high", "dtype"), [(32767, pb.INT16), (32768, pb.INT32), (-32769, pb.INT32), (-1, pb.INT16)]
)
def test_coords_take_the_smaller_type_that_holds_them(high: int, dtype: int) -> None:
    coords = np.array([[0, 1, high]])
    message = frame_message(Frame(None, coords, POINTS[:1], "a")).voxels
    assert message.coords_dtype == dtype
    width = "<i2" if dtype == pb.INT16 else "<i4"
    np.testing.assert_array_equal(np.frombuffer(message.coords, width), coords[0])


def test_half_precision_stays_half() -> None:
    message = frame_message(Frame(None, COORDS, POINTS[:2].astype(np.float16), "a")).voxels
    assert message.features_dtype == pb.FLOAT16 and len(message.features) == 16


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (Frame(POINTS), "frame_id has 0 bytes, expected 1 to 128"),
        (Frame(POINTS, frame_id="ä" * 65), "frame_id has 130 bytes"),
        (Frame(frame_id="a"), "either points, or coords and features"),
        (Frame(POINTS, COORDS, POINTS, "a"), "either points"),
        (Frame(None, COORDS, None, "a"), "either points"),
        (Frame(None, COORDS, POINTS, "a"), "2 rows of coords, 3 of features"),
        (Frame(POINTS[0], frame_id="a"), r"points have shape \(4,\)"),
        (Frame(POINTS.astype(int), frame_id="a"), "points are int64, expected float32"),
        (Frame(None, COORDS[0], POINTS, "a"), r"coords have shape \(3,\)"),
        (Frame(None, COORDS * 1.0, POINTS[:2], "a"), "coords are float64"),
        (Frame(None, COORDS + 2**31, POINTS[:2], "a"), "from 2147483648 to 2147483653, expected"),
        (Frame(POINTS, frame_id="a", captured_at=datetime(2026, 1, 1)), "has no time zone"),  # noqa: DTZ001
    ],
)
def test_frames_that_cannot_be_sent(frame: Frame, message: str) -> None:
    with pytest.raises(MessageError, match=message):
        frame_message(frame)


def test_frame_above_the_servers_limit() -> None:
    assert frame_message(Frame(POINTS, frame_id="a"), max_bytes=48)
    with pytest.raises(MessageError, match="48 bytes"):
        frame_request(Frame(POINTS, frame_id="a"), max_bytes=47)
    with pytest.raises(MessageError, match="frame a: 48 bytes, the server takes at most 47"):
        frame_message(Frame(POINTS, frame_id="a"), max_bytes=47)


@given(num=st.integers(0, 40), rows=st.integers(1, 50))
def test_chunks_join_to_the_frame(num: int, rows: int) -> None:
    coords = np.arange(3 * num).reshape(num, 3)
    features = np.random.default_rng(num).normal(size=(num, 2)).astype(np.float32)
    parts = split_frame(Frame(None, coords, features, "a"), rows)
    chunks = [message.chunk for message in chunk_messages(parts, "a")]
    assert [chunk.index for chunk in chunks] == list(range(max(1, -(-num // rows))))
    assert [chunk.last for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert {chunk.part.frame_id for chunk in chunks} == {"a"}
    assert sum(chunk.part.voxels.num_sites for chunk in chunks) == num
    joined = b"".join(chunk.part.voxels.features for chunk in chunks)
    assert joined == features.tobytes()


@pytest.mark.parametrize(("high", "dtype"), [(32767, pb.INT16), (32768, pb.INT32)])
def test_parts_repeat_the_type_of_coords(high: int, dtype: int) -> None:
    coords = np.array([[0, 0, 1], [0, 0, high]])
    split = split_frame(Frame(None, coords, POINTS[:2], "a"), 1)
    types = [m.chunk.part.voxels.coords_dtype for m in chunk_messages(split, "a")]
    assert types == [dtype, dtype]
    turning = [Frame(None, coords[i : i + 1], POINTS[i : i + 1]) for i in (0, 1)]
    types = [m.chunk.part.voxels.coords_dtype for m in chunk_messages(turning, "a")]
    assert types == [pb.INT32, pb.INT32]  # the second part is not known when the first one is sent


def test_chunks_are_limited_together() -> None:
    with pytest.raises(MessageError, match="48 bytes up to chunk 2, the server takes at most 40"):
        list(chunk_messages(split_frame(Frame(POINTS), 1), "a", 40))
    with pytest.raises(MessageError, match="frame a has no part"):
        list(chunk_messages([], "a"))
    with pytest.raises(MessageError, match="chunk_rows is 0"):
        list(split_frame(Frame(POINTS), 0))


@pytest.mark.parametrize(
    ("dtype", "numpy_dtype"),
    [
        (pb.FLOAT32, "<f4"), (pb.FLOAT16, "<f2"), (pb.INT8, "i1"), (pb.UINT8, "u1"),
        (pb.INT16, "<i2"), (pb.INT32, "<i4"), (pb.INT64, "<i8"), (pb.BOOL, "?"),
    ],
)  # fmt: skip
def test_tensors_of_every_type(dtype: int, numpy_dtype: str) -> None:
    values = np.array([[0, 1, 2], [3, 4, 5]]).astype(numpy_dtype)
    parsed = parse_tensor(pb.Tensor(name="t", dtype=dtype, shape=[2, 3], data=values.tobytes()))
    np.testing.assert_array_equal(parsed, values)


def test_bfloat16_is_widened() -> None:
    values = np.float32([1.5, -2.0, 0.0078125])
    data = (values.view(np.uint32) >> 16).astype("<u2").tobytes()
    parsed = parse_tensor(pb.Tensor(dtype=pb.BFLOAT16, shape=[3], data=data))
    assert parsed.dtype == np.float32
    np.testing.assert_array_equal(parsed, values)


@pytest.mark.parametrize(
    ("shape", "size"), [([3], 11), ([3], 13), ([-1], 4), ([1 << 40, 1 << 40], 4), ([], 0)]
)
def test_tensors_that_contradict_themselves(shape: list[int], size: int) -> None:
    with pytest.raises(MessageError, match="output t: shape"):
        parse_tensor(pb.Tensor(name="t", dtype=pb.FLOAT32, shape=shape, data=bytes(size)))


def test_tensor_of_unknown_type() -> None:
    with pytest.raises(MessageError, match="output t: unknown dtype 77"):
        parse_tensor(pb.Tensor(name="t", dtype=77))


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"point_range": 7}', '{"voxel_size": ["x"]}'])
def test_metadata_that_is_none_leaves_its_fields_empty(text: str) -> None:
    model = parse_model(pb.ModelInfo(name="m", metadata_json=text))
    assert (model.grid, model.class_names) == (None, ())


def test_codes() -> None:
    assert status_code(10) is grpc.StatusCode.ABORTED
    assert status_code(99) is grpc.StatusCode.UNKNOWN
