# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""What the sync and the async client give and get, and messages of voxgate.v1 made into it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any, TypeAlias

import grpc
import numpy as np
from numpy.typing import NDArray

from voxgate_client.voxelize import VoxelGrid, grid_from_metadata
from voxgate_protos import voxel_inference_pb2 as pb

_NUMPY_OF_DTYPE: dict[int, str] = {
    pb.FLOAT32: "<f4",
    pb.FLOAT16: "<f2",
    pb.BFLOAT16: "<u2",
    pb.INT8: "i1",
    pb.UINT8: "u1",
    pb.INT16: "<i2",
    pb.INT32: "<i4",
    pb.INT64: "<i8",
    pb.BOOL: "?",
}
_STATUS_OF_CODE = {status.value[0]: status for status in grpc.StatusCode}


class MessageError(ValueError):
    """A frame that cannot be sent as it is, or an answer that contradicts itself."""


class VoxgateRpcError(Exception):
    """A call that failed.

    Attributes:
        code: the gRPC status code.
        message: the server's message, or gRPC's own for a connection that failed.
    """

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(f"{code.name}: {message}")
        self.code = code
        self.message = message


class QueuePolicy(Enum):
    """What a full queue does: FIFO refuses the new frame, LATEST replaces the waiting one."""

    FIFO = pb.FIFO
    LATEST = pb.LATEST


@dataclass(frozen=True)
class Frame:
    """One sensor sweep: either `points`, or `coords` and `features`.

    Attributes:
        points: float32 or float16 `[P, F]`, x, y, z first, in metres; F as the model's features.
        coords: integers `[N, D]` in the order of the model's axes, no batch column, unique rows.
        features: float32 or float16 `[N, C]`.
        frame_id: at most 128 bytes, unique among a stream's unanswered frames; "" lets the client
            choose one.
        sensor_id: comes back with the answer.
        captured_at: when the sensor took it (aware datetime), for the server's frame-age metric.
    """

    points: NDArray[Any] | None = None
    coords: NDArray[Any] | None = None
    features: NDArray[Any] | None = None
    frame_id: str = ""
    sensor_id: str = ""
    captured_at: datetime | None = None


@dataclass(frozen=True)
class Timing:
    """Microseconds a frame spent in each stage on the server, and the batch it ran in."""

    receive_us: int = 0
    decode_us: int = 0
    queue_us: int = 0
    execute_us: int = 0
    encode_us: int = 0
    total_us: int = 0
    batch_frames: int = 0
    batch_sites: int = 0


@dataclass(frozen=True)
class FrameResult:
    """The answer to one frame.

    Attributes:
        outputs: arrays by output name; `per_site` and `per_point` rows are in the order sent;
            bfloat16 comes as float32.
        timing: the server's stages.
        client_seconds: from the call that sent the frame to its answer parsed.
    """

    frame_id: str
    model: str
    version: str
    outputs: dict[str, NDArray[Any]]
    timing: Timing
    sensor_id: str = ""
    client_seconds: float = 0.0


@dataclass(frozen=True)
class FrameFailure:
    """The error that answers one frame; `client_seconds` as in FrameResult."""

    frame_id: str
    code: grpc.StatusCode
    message: str
    client_seconds: float = 0.0


Answer: TypeAlias = FrameResult | FrameFailure


@dataclass(frozen=True)
class Notice:
    """News about the stream that answers no frame.

    Attributes:
        kind: from the server "DRAINING", "MODEL_RELOADED"; from this client "RECONNECTING",
            "RECONNECTED", or "UNMATCHED" for an error that fits no frame of the stream.
        model: the model that answers from now on (MODEL_RELOADED, RECONNECTED), else None.
    """

    kind: str
    message: str
    model: ModelDescription | None = None


@dataclass(frozen=True)
class OutputDescription:
    """One output of a model; `meaning` and `coords` as in docs of the protocol's TensorInfo."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    meaning: str
    coords: str


@dataclass(frozen=True)
class ModelDescription:
    """What a server says about a model.

    Attributes:
        input_kind: "voxels" or "points".
        spatial_shape: the grid's size per axis (z, y, x).
        grid: the metric grid, None when the model's metadata has none.
        class_names, class_colors ("#rrggbb"): of a labelling model, else empty.
        max_frame_sites, max_frame_bytes: the server's limits, 0 when it names none.
    """

    name: str
    version: str
    state: str
    state_reason: str
    input_kind: str
    feature_names: tuple[str, ...]
    spatial_shape: tuple[int, ...]
    outputs: tuple[OutputDescription, ...]
    max_frame_sites: int
    max_frame_bytes: int
    grid: VoxelGrid | None
    class_names: tuple[str, ...]
    class_colors: tuple[str, ...]
    metadata: dict[str, Any]


@dataclass(frozen=True)
class StreamOptions:
    """How a stream is opened; zeros and None leave the choice to the server.

    Attributes:
        version: a positive integer as text; "" is the newest ready one.
        outputs: names of the outputs wanted; empty: all.
        max_queued_frames: frames of this stream that may wait on the server.
        frame_deadline: seconds from a frame's last byte to the start of its execution.
        unordered: results come as they are ready, not in the order sent.
    """

    version: str = ""
    outputs: tuple[str, ...] = ()
    policy: QueuePolicy = QueuePolicy.FIFO
    max_queued_frames: int = 0
    frame_deadline: float | None = None
    priority: int = 0
    unordered: bool = False


# ---- to messages -----------------------------------------------------------------------------


def open_message(model: str, options: StreamOptions) -> pb.StreamRequest:
    """The first message of a stream."""
    opening = pb.StreamOpen(
        model=model,
        version=options.version,
        outputs=options.outputs,
        policy=options.policy.value,
        max_queued_frames=options.max_queued_frames,
        priority=options.priority,
        unordered=options.unordered,
    )
    if options.frame_deadline is not None:
        opening.frame_deadline.FromNanoseconds(round(options.frame_deadline * 1e9))
    return pb.StreamRequest(open=opening)


# ---- from messages ---------------------------------------------------------------------------


def parse_tensor(tensor: pb.Tensor) -> NDArray[Any]:
    """The array in a Tensor; bfloat16 is widened to float32.

    Raises:
        MessageError: unknown dtype, or bytes that do not fill the shape.
    """
    if tensor.dtype not in _NUMPY_OF_DTYPE:
        raise MessageError(f"output {tensor.name}: unknown dtype {tensor.dtype}")
    dtype = np.dtype(_NUMPY_OF_DTYPE[tensor.dtype])
    shape = tuple(tensor.shape)
    count = 1
    for size in shape:
        count *= size
    data = tensor.data  # every access copies it
    if any(size < 0 for size in shape) or count * dtype.itemsize != len(data):
        raise MessageError(
            f"output {tensor.name}: shape {list(shape)} of {dtype} is {count * dtype.itemsize} "
            f"bytes, got {len(data)}"
        )
    array = np.frombuffer(data, dtype).reshape(shape)
    if tensor.dtype == pb.BFLOAT16:
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array


def parse_result(
    response: pb.InferResponse, client_seconds: float = 0.0, *, parse_outputs: bool = True
) -> FrameResult:
    """Raises MessageError as `parse_tensor`; `parse_outputs=False` leaves the outputs out."""
    timing = response.timing
    outputs = response.outputs if parse_outputs else ()
    return FrameResult(
        response.frame_id,
        response.model,
        response.version,
        {tensor.name: parse_tensor(tensor) for tensor in outputs},
        Timing(
            timing.receive_us,
            timing.decode_us,
            timing.queue_us,
            timing.execute_us,
            timing.encode_us,
            timing.total_us,
            timing.batch_frames,
            timing.batch_sites,
        ),
        response.sensor_id,
        client_seconds,
    )


def status_code(code: int) -> grpc.StatusCode:
    """The gRPC status of a google.rpc.Code; UNKNOWN for a number that is none."""
    return _STATUS_OF_CODE.get(code, grpc.StatusCode.UNKNOWN)


def rpc_error(error: grpc.RpcError) -> VoxgateRpcError:
    """What gRPC raises, sync or aio, as ours."""
    code = error.code() if hasattr(error, "code") else grpc.StatusCode.UNKNOWN
    details = error.details() if hasattr(error, "details") else str(error)
    return VoxgateRpcError(code or grpc.StatusCode.UNKNOWN, details or "no details given")


def parse_model(info: pb.ModelInfo) -> ModelDescription:
    """Reads a ModelInfo; metadata that is no JSON object leaves its fields empty."""
    metadata = _json_object(info.metadata_json)
    try:
        grid = grid_from_metadata(metadata.get("point_range"), metadata.get("voxel_size"))
    except (TypeError, ValueError):
        grid = None
    return ModelDescription(
        info.name,
        info.version,
        pb.ModelInfo.State.Name(info.state) if info.state in pb.ModelInfo.State.values() else "?",
        info.state_reason,
        info.input_kind,
        tuple(info.feature_names),
        tuple(info.spatial_shape),
        tuple(_parse_output(output) for output in info.outputs),
        info.max_frame_sites,
        info.max_frame_bytes,
        grid,
        _strings(metadata.get("class_names")),
        _strings(metadata.get("class_colors")),
        metadata,
    )


def _parse_output(output: pb.TensorInfo) -> OutputDescription:
    known = output.dtype in pb.DataType.values()
    dtype = pb.DataType.Name(output.dtype).lower() if known else str(output.dtype)
    return OutputDescription(output.name, dtype, tuple(output.shape), output.meaning, output.coords)


def _json_object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text) if text else {}
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _strings(value: object) -> tuple[str, ...]:
    return tuple(map(str, value)) if isinstance(value, list) else ()
