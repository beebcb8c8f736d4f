# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Frames to messages of voxgate.v1: whole, serialised with one copy of the arrays, in chunks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxgate_client.messages import Frame, MessageError
from voxgate_protos import voxel_inference_pb2 as pb

MAX_FRAME_ID_BYTES = 128
_REQUEST = pb.StreamRequest()


def frame_message(frame: Frame, max_bytes: int = 0, *, is_part: bool = False) -> pb.Frame:
    """A frame as a message of its own; see `pack_frame`."""
    message = pb.Frame()
    pack_frame(message, frame, max_bytes, is_part=is_part)
    return message


def pack_frame(
    message: pb.Frame, frame: Frame, max_bytes: int = 0, *, is_part: bool = False
) -> int:
    """Packs a frame in place, which saves the copy that setting a submessage costs.

    Returns the bytes of its arrays.

    Args:
        message: an empty message, usually the `frame` of a request.
        frame: what to send; its `frame_id` must be set.
        max_bytes: the server's limit on a frame's arrays; 0: no limit known.
        is_part: one of a frame's chunks, whose types must be the same whatever their values.

    Raises:
        MessageError: arrays of wrong rank, type or length, an id out of bounds, or too many bytes.
    """
    payload, arrays = _describe(message, frame, max_bytes, is_part)
    for name, array in arrays.items():
        setattr(payload, name, array.tobytes())
    return sum(array.nbytes for array in arrays.values())


def frame_request(frame: Frame, max_bytes: int = 0) -> bytes:
    """A frame as a serialised StreamRequest; arguments and errors as of `pack_frame`.

    Its arrays are copied once: the protobuf runtime would copy a megabyte three times.
    """
    message = pb.Frame()
    payload, arrays = _describe(message, frame, max_bytes, is_part=False)
    kind = "voxels" if frame.points is None else "points"
    body: list[bytes | memoryview] = [payload.SerializeToString()]
    for name, array in arrays.items():
        data = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
        body += (_head(payload, name, len(data)), data)
    size = sum(map(len, body))
    message.ClearField("payload")
    head = message.SerializeToString() + _head(message, kind, size)
    return b"".join((_head(_REQUEST, "frame", len(head) + size), head, *body))


def _head(message: Any, field: str, size: int) -> bytes:
    """Tag and length of a length-delimited field."""
    return varint(message.DESCRIPTOR.fields_by_name[field].number << 3 | 2) + varint(size)


def varint(value: int) -> bytes:
    """A number as protobuf writes it."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _describe(
    message: pb.Frame, frame: Frame, max_bytes: int, is_part: bool
) -> tuple[pb.PointCloud | pb.SparseVoxels, dict[str, NDArray[Any]]]:
    """All of a message but its arrays; returns what has them, and them by field."""
    id_bytes = len(frame.frame_id.encode())
    if not 0 < id_bytes <= MAX_FRAME_ID_BYTES:
        raise MessageError(f"frame_id has {id_bytes} bytes, expected 1 to {MAX_FRAME_ID_BYTES}")
    message.frame_id, message.sensor_id = frame.frame_id, frame.sensor_id
    if frame.captured_at is not None:
        message.captured_at.FromDatetime(_aware(frame.captured_at))
    payload: pb.PointCloud | pb.SparseVoxels
    if frame.points is not None and frame.coords is None and frame.features is None:
        payload = message.points
        arrays = _describe_points(message.points, frame.points)
    elif frame.points is None and frame.coords is not None and frame.features is not None:
        payload = message.voxels
        arrays = _describe_voxels(message.voxels, frame.coords, frame.features, is_part)
    else:
        raise MessageError("a frame has either points, or coords and features")
    num_bytes = sum(array.nbytes for array in arrays.values())
    if 0 < max_bytes < num_bytes:
        raise MessageError(
            f"frame {frame.frame_id}: {num_bytes} bytes, the server takes at most {max_bytes}"
        )
    return payload, arrays


def _aware(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise MessageError(f"captured_at {moment.isoformat()} has no time zone")
    return moment.astimezone(UTC)


def _describe_points(message: pb.PointCloud, points: NDArray[Any]) -> dict[str, NDArray[Any]]:
    array, message.dtype = _floats("points", points)
    message.num_points, message.num_fields = array.shape
    return {"points": array}


def _describe_voxels(
    message: pb.SparseVoxels, coords: NDArray[Any], features: NDArray[Any], is_part: bool
) -> dict[str, NDArray[Any]]:
    sites, message.coords_dtype = _sites(coords, is_part)
    rows, message.features_dtype = _floats("features", features)
    if len(sites) != len(rows):
        raise MessageError(f"{len(sites)} rows of coords, {len(rows)} of features")
    message.num_sites, message.num_features = rows.shape
    return {"coords": sites, "features": rows}


def _floats(name: str, values: NDArray[Any]) -> tuple[NDArray[Any], pb.DataType.ValueType]:
    array = np.asarray(values)
    if array.ndim != 2:
        raise MessageError(f"{name} have shape {array.shape}, expected two dimensions")
    if array.dtype == np.float16:
        return array.astype("<f2", copy=False), pb.FLOAT16
    if array.dtype.kind != "f":
        raise MessageError(f"{name} are {array.dtype}, expected float32 or float16")
    return array.astype("<f4", copy=False), pb.FLOAT32


def _sites(coords: NDArray[Any], is_part: bool) -> tuple[NDArray[Any], pb.DataType.ValueType]:
    array = np.asarray(coords)
    if array.ndim != 2:
        raise MessageError(f"coords have shape {array.shape}, expected [N, D]")
    if array.dtype.kind not in "iu":
        raise MessageError(f"coords are {array.dtype}, expected an integer type")
    if np.can_cast(array.dtype, np.int16):
        return array.astype("<i2", copy=False), pb.INT16
    array = np.ascontiguousarray(array)  # a slice of columns takes three times as long to look at
    low, high = (int(array.min()), int(array.max())) if array.size else (0, 0)
    # Half the bytes for every grid a sensor sees; the server widens them again.
    if not is_part and low >= -(1 << 15) and high < 1 << 15:
        return array.astype("<i2", copy=False), pb.INT16
    if low >= -(1 << 31) and high < 1 << 31:
        return array.astype("<i4", copy=False), pb.INT32
    raise MessageError(f"coords from {low} to {high}, expected int32")


def split_frame(frame: Frame, chunk_rows: int) -> Iterator[Frame]:
    """Cuts a frame into parts of `chunk_rows` rows (the last has the rest), at least one part."""
    if chunk_rows < 1:
        raise MessageError(f"chunk_rows is {chunk_rows}, expected at least 1")

    def part(values: NDArray[Any] | None, start: int) -> NDArray[Any] | None:
        return None if values is None else values[start : start + chunk_rows]

    # One type for all parts, chosen by the values of all.
    coords = None if frame.coords is None else _sites(frame.coords, is_part=False)[0]
    arrays = [a for a in (frame.points, coords, frame.features) if a is not None]
    for start in range(0, max([1, *map(len, arrays)]), chunk_rows):
        yield Frame(
            part(frame.points, start),
            part(coords, start),
            part(frame.features, start),
            frame.frame_id,
            frame.sensor_id,
            frame.captured_at,
        )


def chunk_messages(
    parts: Iterable[Frame], frame_id: str, max_bytes: int = 0
) -> Iterator[pb.StreamRequest]:
    """Packs the parts of one frame, each as soon as the next one is there (or none is).

    Raises:
        MessageError: as `frame_message`; no part; or more bytes in all parts than `max_bytes`.
    """
    previous: pb.Frame | None = None
    index = total = 0
    for part in parts:
        if previous is not None:
            yield pb.StreamRequest(chunk=pb.FrameChunk(part=previous, index=index, last=False))
            index += 1
        previous = pb.Frame()
        total += pack_frame(previous, replace(part, frame_id=frame_id), is_part=True)
        if 0 < max_bytes < total:
            raise MessageError(
                f"frame {frame_id}: {total} bytes up to chunk {index}, the server takes at most "
                f"{max_bytes}"
            )
    if previous is None:
        raise MessageError(f"frame {frame_id} has no part")
    yield pb.StreamRequest(chunk=pb.FrameChunk(part=previous, index=index, last=True))
