# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""The asyncio client: the same calls as `client`, awaited."""

from __future__ import annotations

import time
import weakref
from pathlib import Path
from types import TracebackType
from typing import Any

import grpc
from numpy.typing import NDArray

from voxgate_client.async_frame_stream import AsyncFrameStream
from voxgate_client.backoff import Backoff
from voxgate_client.channel import (
    DEFAULT_MAX_ANSWER_BYTES,
    DEFAULT_TARGET,
    DEFAULT_TIMEOUT_S,
    Endpoint,
)
from voxgate_client.frame_messages import pack_frame
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


class AsyncVoxgateClient:
    """As VoxgateClient, on the running event loop; an async context manager."""

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
        self._channel = self._endpoint.aio_channel()
        self._stub = pb_grpc.VoxelInferenceStub(self._channel)
        self._max_frame_bytes: dict[tuple[str, str], int] = {}
        self._streams: weakref.WeakSet[AsyncFrameStream] = weakref.WeakSet()

    async def __aenter__(self) -> AsyncVoxgateClient:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connection; open streams end with CANCELLED."""
        for stream in list(self._streams):
            await stream.close()
        await self._channel.close()

    async def list_models(self, timeout: float | None = None) -> list[ModelDescription]:
        """As VoxgateClient.list_models."""
        try:
            response = await self._stub.ListModels(
                pb.ListModelsRequest(),
                timeout=timeout or self._timeout,
                metadata=self._endpoint.metadata,
            )
        except grpc.RpcError as error:
            raise rpc_error(error) from error
        return [parse_model(info) for info in response.models]

    async def get_model(
        self, name: str, version: str = "", timeout: float | None = None
    ) -> ModelDescription:
        """As VoxgateClient.get_model."""
        request = pb.GetModelRequest(name=name, version=version)
        try:
            info = await self._stub.GetModel(
                request, timeout=timeout or self._timeout, metadata=self._endpoint.metadata
            )
        except grpc.RpcError as error:
            raise rpc_error(error) from error
        return parse_model(info)

    async def infer(
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
        """As VoxgateClient.infer."""
        key = (model, version)
        if key not in self._max_frame_bytes:
            described = await self.get_model(model, version, timeout)
            self._max_frame_bytes[key] = described.max_frame_bytes
        frame = Frame(points, coords, features, frame_id, sensor_id)
        request = pb.InferRequest(model=model, version=version, outputs=outputs)
        pack_frame(request.frame, frame, self._max_frame_bytes[key])
        start = time.perf_counter()
        try:
            response = await self._stub.Infer(
                request, timeout=timeout or self._timeout, metadata=self._endpoint.metadata
            )
        except grpc.RpcError as error:
            raise rpc_error(error) from error
        return parse_result(response, time.perf_counter() - start)

    async def open_stream(
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
    ) -> AsyncFrameStream:
        """As VoxgateClient.open_stream; `on_event` is called on the event loop."""
        behavior = StreamBehavior(
            max_in_flight, send_queue, reconnect, resend, on_event, parse_outputs
        )
        limit = timeout or self._timeout
        stream = AsyncFrameStream(
            self._endpoint, self._channel, model, options or StreamOptions(), behavior, limit
        )
        self._streams.add(stream)
        await stream.wait_opened(limit)
        return stream
