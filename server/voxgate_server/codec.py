# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Frames to checked arrays in canonical order, and a model's outputs back to messages.

Decoding runs outside the event loop: everything here that touches a row is numpy or native code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from voxgate_ops import _native
from voxgate_ops.protobuf_wire import encode_varint
from voxgate_protos import voxel_inference_pb2 as pb
from voxgate_server.errors import InvalidFrame
from voxgate_server.wire import NO_ARRAYS, Arrays

Array: TypeAlias = NDArray[Any]

# bfloat16 has no numpy type: it travels as its bits.
_FLOAT_WIRE: dict[pb.DataType.ValueType, np.dtype[Any]] = {
    pb.FLOAT32: np.dtype("<f4"),
    pb.FLOAT16: np.dtype("<f2"),
    pb.BFLOAT16: np.dtype("<u2"),
}
_COORDS_WIRE: dict[pb.DataType.ValueType, np.dtype[Any]] = {
    pb.INT16: np.dtype("<i2"),
    pb.INT32: np.dtype("<i4"),
}
_WIRE_TYPES: dict[np.dtype[Any], pb.DataType.ValueType] = {
    np.dtype(np.float32): pb.FLOAT32,
    np.dtype(np.float16): pb.FLOAT16,
    np.dtype(np.int8): pb.INT8,
    np.dtype(np.uint8): pb.UINT8,
    np.dtype(np.int16): pb.INT16,
    np.dtype(np.int32): pb.INT32,
    np.dtype(np.int64): pb.INT64,
    np.dtype(np.bool_): pb.BOOL,
}


@dataclass(frozen=True, slots=True)
class FrameSpec:
    """What a model takes: the shape, types and limits that a frame is held to."""

    input_kind: str  # "voxels" or "points"
    spatial_shape: tuple[int, ...]
    num_features: int  # columns of `features`, or of `points`
    features_dtype: np.dtype[Any]
    allow_nonfinite: bool
    max_sites: int
    max_bytes: int

    @property
    def payload_field(self) -> str:
        return "points" if self.input_kind == "points" else "voxels"

    @property
    def rows(self) -> Literal["sites", "points"]:
        """What a frame has rows of."""
        return "points" if self.input_kind == "points" else "sites"


@dataclass(frozen=True, slots=True)
class VoxelPart:
    """The sites of a frame, or of one chunk of it, as they came; the bytes are not checked yet."""

    num_sites: int
    coords_dtype: pb.DataType.ValueType
    coords: bytes | memoryview
    features_dtype: pb.DataType.ValueType
    features: bytes | memoryview

    @property
    def count(self) -> int:
        return self.num_sites

    @property
    def nbytes(self) -> int:
        return len(self.coords) + len(self.features)


@dataclass(frozen=True, slots=True)
class PointPart:
    """The points of a frame, or of one chunk of it, as they came; the bytes are not checked yet."""

    num_points: int
    dtype: pb.DataType.ValueType
    points: bytes | memoryview

    @property
    def count(self) -> int:
        return self.num_points

    @property
    def nbytes(self) -> int:
        return len(self.points)


Payload: TypeAlias = VoxelPart | PointPart


@dataclass(frozen=True, slots=True)
class DecodedFrame:
    """A checked frame. `rank[i]` is the canonical row of the client's row i; None: the same row.

    `inputs` holds the graph's arrays: `coords` int32 `[N, 1+D]` with batch index 0 and `features`
    `[N, C]`, or `points` `[P, F]` and `point_batch` int32 `[P]`.
    """

    inputs: dict[str, Array]
    num_sites: int
    rank: NDArray[np.int64] | None


@dataclass(frozen=True, slots=True)
class OutputSpec:
    """One output as clients get it: its shape without the batch axis or column."""

    name: str
    dtype: pb.DataType.ValueType
    shape: tuple[int, ...]
    meaning: str
    coords: str = ""  # sparse: the output that names its sites
    frame: str = ""  # detections: the graph output with each row's batch index


def wire_type(dtype: np.dtype[Any]) -> pb.DataType.ValueType | None:
    """The wire's name of a numpy type; None: it cannot be sent."""
    return _WIRE_TYPES.get(dtype)


def payload_of(frame: pb.Frame, spec: FrameSpec, arrays: Arrays = NO_ARRAYS) -> Payload:
    """The frame's payload, of the kind that the model takes and of types that it can be read in.

    Args:
        frame: what is not in `arrays` is read from it.
        spec: the model's.
        arrays: what `wire.parse` cut out of the message.

    Raises:
        InvalidFrame: another kind or none, or a type, width or encoding that is not accepted.
    """
    kind = frame.WhichOneof("payload")
    if kind is None:
        raise InvalidFrame(f"payload: none, the model takes {spec.payload_field}")
    if kind != spec.payload_field:
        raise InvalidFrame(f"payload: {kind}, the model takes {spec.payload_field}")
    if kind == "points":
        cloud = frame.points
        _check_type("points.dtype", cloud.dtype, _FLOAT_WIRE)
        _check_width("points.num_fields", cloud.num_fields, spec.num_features)
        points = arrays.get("points", cloud.points)
        return PointPart(cloud.num_points, cloud.dtype, points)
    voxels = frame.voxels
    if voxels.coords_encoding != pb.PLAIN:
        raise InvalidFrame(f"coords_encoding: {voxels.coords_encoding}, the model takes PLAIN")
    _check_type("coords_dtype", voxels.coords_dtype, _COORDS_WIRE)
    _check_type("features_dtype", voxels.features_dtype, _FLOAT_WIRE)
    _check_width("num_features", voxels.num_features, spec.num_features)
    coords = arrays.get("coords", voxels.coords)
    features = arrays.get("features", voxels.features)
    return VoxelPart(voxels.num_sites, voxels.coords_dtype, coords, voxels.features_dtype, features)


def check_limits(sites: int, size: int, spec: FrameSpec) -> None:
    """Hold a frame's running sums against the model's limits.

    Raises:
        InvalidFrame: too many sites, or too many bytes.
    """
    if sites > spec.max_sites:
        raise InvalidFrame(f"frame: {sites} {spec.rows}, the limit is {spec.max_sites}")
    if size > spec.max_bytes:
        raise InvalidFrame(f"frame: {size} bytes of payload, the limit is {spec.max_bytes}")


@dataclass(frozen=True, slots=True)
class ReadPart:
    """A payload's arrays, their bytes and values checked.

    `coords` int32 `[N, 1+D]`, None for points; `canonical`: they are in canonical order. `values`
    `[N, C]` are features or points, of the model's type.
    """

    values: Array
    coords: NDArray[np.int32] | None = None
    canonical: bool = False


def read_part(part: Payload, spec: FrameSpec) -> ReadPart:
    """Check the bytes and values of a payload that `payload_of` accepted.

    Raises:
        InvalidFrame: byte counts that do not fit, sites outside the grid, values that are not
            finite where the model forbids them, or too large for its type.
    """
    if isinstance(part, PointPart):
        return ReadPart(_read_values("points", part.points, part.dtype, part.count, spec))
    axes = len(spec.spatial_shape)
    wire = _COORDS_WIRE[part.coords_dtype]
    data = _bytes_of("coords", part.coords, wire, part.count, axes)
    try:
        coords, canonical = _native.read_sites(data, wire.itemsize, spec.spatial_shape)
    except ValueError as error:  # both of the native exceptions
        raise InvalidFrame(str(error)) from error
    values = _read_values("features", part.features, part.features_dtype, part.count, spec)
    return ReadPart(values, coords, canonical)


def assemble(parts: Sequence[ReadPart], spec: FrameSpec) -> DecodedFrame:
    """A frame's parts in the order sent, as one frame in canonical order.

    Raises:
        InvalidFrame: a site twice.
    """
    first = parts[0]
    values = first.values if len(parts) == 1 else np.concatenate([p.values for p in parts])
    if first.coords is None:
        inputs = {"points": values, "point_batch": np.zeros(len(values), np.int32)}
        return DecodedFrame(inputs, len(values), None)
    if len(parts) == 1 and first.canonical:
        return DecodedFrame({"coords": first.coords, "features": values}, len(values), None)
    coords = first.coords
    if len(parts) > 1:
        coords = np.concatenate([p.coords for p in parts if p.coords is not None])
    try:
        sites, order, rank = _native.sort_sites(coords, spec.spatial_shape, threads=1)
    except ValueError as error:  # both of the native exceptions
        raise InvalidFrame(str(error)) from error
    return DecodedFrame({"coords": sites, "features": values.take(order, axis=0)}, len(sites), rank)


def decode(parts: Sequence[Payload], spec: FrameSpec) -> DecodedFrame:
    """`assemble` of every part's `read_part`. Raises InvalidFrame as they do."""
    return assemble([read_part(part, spec) for part in parts], spec)


def _read_values(
    name: str,
    data: bytes | memoryview,
    dtype: pb.DataType.ValueType,
    rows: int,
    spec: FrameSpec,
) -> Array:
    """Rows as aligned floats of the model's type, held to `spec.allow_nonfinite`."""
    wire, columns = _FLOAT_WIRE[dtype], spec.num_features
    sent = _bytes_of(name, data, wire, rows, columns)
    values: Array
    if dtype == pb.FLOAT32:
        values, first_bad = _native.read_floats(sent, columns)
        finite = first_bad < 0
    else:
        values = sent.copy().view(wire).reshape(rows, columns)
        if dtype == pb.BFLOAT16:
            values = (values.astype(np.uint32) << 16).view(np.float32)
        finite = bool(np.isfinite(values).all())
    if not finite and not spec.allow_nonfinite:
        if spec.input_kind == "points":
            _check_point_features(values, len(spec.spatial_shape))
        else:
            _refuse_nonfinite(name, values)
    return _converted(name, values, spec.features_dtype)


def _converted(name: str, values: Array, dtype: np.dtype[Any]) -> Array:
    """`values` as the model's type, which may reach less far than the one they came in."""
    if values.dtype == dtype:
        return values
    with np.errstate(over="ignore"):
        converted = values.astype(dtype)
    lost = np.isfinite(values) & ~np.isfinite(converted)
    if lost.any():
        row, column = (int(i) for i in np.argwhere(lost)[0])
        raise InvalidFrame(
            f"{name}: row {row} column {column} is {values[row, column]:g}, "
            f"the model takes {dtype.name} up to {np.finfo(dtype).max:g}"
        )
    return converted


def _bytes_of(
    name: str, data: bytes | memoryview, dtype: np.dtype[Any], rows: int, columns: int
) -> NDArray[np.uint8]:
    expected = rows * columns * dtype.itemsize
    if len(data) != expected:
        label = "bfloat16" if dtype == _FLOAT_WIRE[pb.BFLOAT16] else dtype.name
        raise InvalidFrame(
            f"{name}: expected {rows} × {columns} {label} = {expected} bytes, got {len(data)}"
        )
    return np.frombuffer(data, np.uint8)


def _refuse_nonfinite(name: str, values: Array) -> None:
    row, column = (int(i) for i in np.argwhere(~np.isfinite(values))[0])
    raise InvalidFrame(
        f"{name}: row {row} column {column} is {values[row, column]}, "
        "the model takes finite values only"
    )


def _check_point_features(points: Array, axes: int) -> None:
    """Sensors mark a missing return by x, y or z that is not finite: its features mean nothing."""
    finite = np.isfinite(points)
    bad = ~finite[:, axes:].all(axis=1) & finite[:, :axes].all(axis=1)
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        column = axes + int(np.flatnonzero(~finite[row, axes:])[0])
        raise InvalidFrame(
            f"points: row {row} column {column} is {points[row, column]}, "
            "the model takes finite features only"
        )


def _check_type(
    name: str, got: pb.DataType.ValueType, accepted: dict[pb.DataType.ValueType, np.dtype[Any]]
) -> None:
    if got not in accepted:
        known = got in pb.DataType.values()
        label = pb.DataType.Name(got) if known else str(got)
        choices = ", ".join(pb.DataType.Name(dtype) for dtype in accepted)
        raise InvalidFrame(f"{name}: {label}, accepted are {choices}")


def _check_width(name: str, got: int, expected: int) -> None:
    if got != expected:
        raise InvalidFrame(f"{name}: {got}, the model takes {expected}")


def frame_outputs(
    outputs: Mapping[str, Array], specs: Sequence[OutputSpec], rank: NDArray[np.int64] | None
) -> list[Array]:
    """One frame's outputs as its client gets them: rows of `per_site` ones in the order sent.

    Args:
        outputs: the frame's part of a run, by name.
        specs: the outputs to give, in this order.
        rank: of the `DecodedFrame`.
    """
    arrays = []
    for spec in specs:
        array = outputs[spec.name]
        if rank is not None and spec.meaning == "per_site":
            array = array.take(rank, axis=0)
        arrays.append(array)
    return arrays


def encode(
    response: pb.InferResponse,
    specs: Sequence[OutputSpec],
    arrays: Sequence[Array],
    *,
    in_stream: bool,
) -> bytes:
    """`response` with `arrays` as its outputs, serialized; `in_stream`: as a StreamResponse.

    Each array's bytes are copied once, from the array into the message: the protobuf runtime would
    copy them three times, which for a bird's-eye-view map is tens of megabytes.
    """
    pieces: list[bytes | memoryview] = [response.SerializeToString()]
    for spec, array in zip(specs, arrays, strict=True):
        data = np.ascontiguousarray(array)
        head = pb.Tensor(name=spec.name, dtype=spec.dtype, shape=array.shape).SerializeToString()
        data_head = _TENSOR_DATA_TAG + encode_varint(data.nbytes)
        size = len(head) + len(data_head) + data.nbytes
        pieces += (_OUTPUTS_TAG + encode_varint(size) + head + data_head, data.reshape(-1).data)
    if in_stream:
        size = sum(len(p) if isinstance(p, bytes) else p.nbytes for p in pieces)
        pieces.insert(0, _RESULT_TAG + encode_varint(size))
    return b"".join(pieces)


def _tag(descriptor: Any, field: str) -> bytes:
    """The wire tag of a length-delimited field."""
    return encode_varint(descriptor.fields_by_name[field].number << 3 | 2)


_OUTPUTS_TAG = _tag(pb.InferResponse.DESCRIPTOR, "outputs")
_TENSOR_DATA_TAG = _tag(pb.Tensor.DESCRIPTOR, "data")
_RESULT_TAG = _tag(pb.StreamResponse.DESCRIPTOR, "result")
