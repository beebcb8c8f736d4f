# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""The synchronous client."""

from __future__ import annotations

import time
import weakref
from pathlib import Path
from types import TracebackType
from typing import Any

import grpc
from numpy.typing import NDArray

from voxgate_client.backoff import Backoff
from voxgate_client.channel import (
    DEFAULT_MAX_ANSWER_BYTES,
    DEFAULT_TARGET,
    DEFAULT_TIMEOUT_S,
    Endpoint,
)
from voxgate_client.frame_messages import pack_frame
from voxgate_client.frame_stream import FrameStream
from voxgate_client.messages import (
    Frame,
    FrameResult,
    ModelDescription,
    StreamOptions,
    parse_model,
    parse_result,
    rpc_error,
)
from voxgate_client.stream_face import DEFAULT_SEND_QUEUE, EventCallback, StreamBehavior
from voxgate_protos import voxel_inference_pb2 as pb
from voxgate_protos import voxel_inference_pb2_grpc as pb_grpc


class VoxgateClient:
    """A connection to one server; thread-safe, usable as a context manager.

    Args:
        target: "host:port".
        timeout: seconds a call may take unless it says otherwise.
        credentials, tls, tls_ca, tls_certificate, tls_key, token, insecure_token,
        max_answer_bytes: as Endpoint; none of them connects without TLS and token.

    Raises:
        ValueError, OSError: as Endpoint.
    """

    def __init__(
        self,
        target: str = DEFAULT_TARGET,
        *,
        timeout: float = DEFAULT_TIMEOUT_S,
        credentials: grpc.ChannelCredentials | None = None,
        tls: bool = False,
        tls_ca: str | Path | None = None,
        tls_certificate: str | Path | None = None,
        tls_key: str | Path | None = None,
        token: str | None = None,
        insecure_token: bool = False,
        max_answer_bytes: int = DEFAULT_MAX_ANSWER_BYTES,
    ) -> None:
        self.target = target
        self._timeout = timeout
        self._endpoint = Endpoint(
            target,
            credentials,
            tls,
            tls_ca,
            tls_certificate,
            tls_key,
            token,
            insecure_token,
            max_answer_bytes,
        )
        self._channel = self._endpoint.channel()
        self._stub = pb_grpc.VoxelInferenceStub(self._channel)
        self._max_frame_bytes: dict[tuple[str, str], int] = {}
        self._streams: weakref.WeakSet[FrameStream] = weakref.WeakSet()

    def __enter__(self) -> VoxgateClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection; open streams end with CANCELLED."""
        for stream in list(self._streams):
            stream.close()
        self._channel.close()

    def list_models(self, timeout: float | None = None) -> list[ModelDescription]:
        """Every model the server shows, also those that failed to load. Raises VoxgateRpcError."""
        try:
            response = self._stub.ListModels(
                pb.ListModelsRequest(),
                timeout=timeout or self._timeout,
                metadata=self._endpoint.metadata,
            )
        except grpc.RpcError as error:
            raise rpc_error(error) from error
        return [parse_model(info) for info in response.models]

    def get_model(
        self, name: str, version: str = "", timeout: float | None = None
    ) -> ModelDescription:
        """One model; VoxgateRpcError with NOT_FOUND when there is none of that name and version."""
        request = pb.GetModelRequest(name=name, version=version)
        try:
            info = self._stub.GetModel(
                request, timeout=timeout or self._timeout, metadata=self._endpoint.metadata
            )
        except grpc.RpcError as error:
            raise rpc_error(error) from error
        return parse_model(info)

    def infer(
        self,
        model: str,
        *,
        points: NDArray[Any] | None = None,
        coords: NDArray[Any] | None = None,
        features: NDArray[Any] | None = None,
        version: str = "",
        outputs: tuple[str, ...] = (),
        frame_id: str = "0",
        sensor_id: str = "",
        timeout: float | None = None,
    ) -> FrameResult:
        """Runs one frame and waits for its answer; `Frame` says what the arrays are.

        The first call for a model also asks for the server's limit on a frame's bytes.

        Raises:
            MessageError: the frame cannot be sent as it is, or is above the server's limit.
            VoxgateRpcError: the server refused the frame, or was not reached.
        """
        key = (model, version)
        if key not in self._max_frame_bytes:
            self._max_frame_bytes[key] = self.get_model(model, version, timeout).max_frame_bytes
        frame = Frame(points, coords, features, frame_id, sensor_id)
        request = pb.InferRequest(model=model, version=version, outputs=outputs)
        pack_frame(request.frame, frame, self._max_frame_bytes[key])
        start = time.perf_counter()
        try:
            response = self._stub.Infer(
                request, timeout=timeout or self._timeout, metadata=self._endpoint.metadata
            )
        except grpc.RpcError as error:
            raise rpc_error(error) from error
        return parse_result(response, time.perf_counter() - start)

    def open_stream(
        self,
        model: str,
        options: StreamOptions | None = None,
        *,
        max_in_flight: int = 0,
        send_queue: int = DEFAULT_SEND_QUEUE,
        reconnect: bool | Backoff = True,
        resend: bool = False,
        on_event: EventCallback | None = None,
        parse_outputs: bool = True,
        timeout: float | None = None,
    ) -> FrameStream:
        """Opens a stream and waits until the server has accepted it.

        Later, a broken connection is opened again with backoff, and one to a draining server is
        left for a new one; what is unanswered on a broken one is answered UNAVAILABLE.

        Args:
            model: the model's name.
            options: see StreamOptions.
            max_in_flight: frames that may be unanswered at once; `send` waits for that (FIFO), or
                the newest frame does (LATEST). 0: no limit.
            send_queue: frames that may wait here to be sent (FIFO) before `send` waits.
            reconnect: False ends the stream with its connection; a Backoff says when to try.
            resend: send unanswered frames again on the next connection; they may then run twice.
            on_event: called with each Notice, on a thread of the stream: keep it short.
            parse_outputs: False leaves the results' outputs empty, where only times are wanted.
            timeout: seconds to wait for the server to accept.

        Raises:
            VoxgateRpcError: the server refused the stream (NOT_FOUND: no such model), was not
                reached (UNAVAILABLE) or did not accept it in time (DEADLINE_EXCEEDED).
        """
        behavior = StreamBehavior(
            max_in_flight, send_queue, reconnect, resend, on_event, parse_outputs
        )
        limit = timeout or self._timeout
        stream = FrameStream(
            self._endpoint, self._channel, model, options or StreamOptions(), behavior, limit
        )
        self._streams.add(stream)
        stream.wait_opened(limit)
        return stream
