# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""The asyncio client: the same calls as `client`, awaited."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
from numpy.typing import NDArray

from voxgate_client.channel import (
    DEFAULT_MAX_ANSWER_BYTES,
    DEFAULT_TARGET,
    DEFAULT_TIMEOUT_S,
    channel_options,
)
from voxgate_client.messages import (
    Answer,
    Frame,
    FrameResult,
    ModelDescription,
    Notice,
    StreamOptions,
    VoxgateRpcError,
    chunk_messages,
    open_message,
    pack_frame,
    parse_model,
    parse_result,
    rpc_error,
    split_frame,
)
from voxgate_client.stream_state import StreamState
from voxgate_protos import voxel_inference_pb2 as pb
from voxgate_protos import voxel_inference_pb2_grpc as pb_grpc

if TYPE_CHECKING:
    from voxgate_protos.voxel_inference_pb2_grpc import VoxelInferenceAsyncStub


class AsyncVoxgateClient:
    """As VoxgateClient, on the running event loop; an async context manager."""

    def __init__(
        self,
        target: str = DEFAULT_TARGET,
        *,
        credentials: grpc.ChannelCredentials | None = None,
        timeout: float = DEFAULT_TIMEOUT_S,
        max_answer_bytes: int = DEFAULT_MAX_ANSWER_BYTES,
    ) -> None:
        self.target = target
        self._timeout = timeout
        options = channel_options(max_answer_bytes)
        self._channel = (
            grpc.aio.insecure_channel(target, options)
            if credentials is None
            else grpc.aio.secure_channel(target, credentials, options)
        )
        self._stub = pb_grpc.VoxelInferenceStub(self._channel)
        self._max_frame_bytes: dict[tuple[str, str], int] = {}

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
        await self._channel.close()

    async def list_models(self, timeout: float | None = None) -> list[ModelDescription]:
        """As VoxgateClient.list_models."""
        try:
            response = await self._stub.ListModels(
                pb.ListModelsRequest(), timeout=timeout or self._timeout
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
            info = await self._stub.GetModel(request, timeout=timeout or self._timeout)
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
            response = await self._stub.Infer(request, timeout=timeout or self._timeout)
        except grpc.RpcError as error:
            raise rpc_error(error) from error
        return parse_result(response, time.perf_counter() - start)

    async def open_stream(
        self,
        model: str,
        options: StreamOptions | None = None,
        *,
        max_in_flight: int = 0,
        timeout: float | None = None,
    ) -> AsyncFrameStream:
        """As VoxgateClient.open_stream."""
        stream = AsyncFrameStream(self._stub, model, options or StreamOptions(), max_in_flight)
        await stream._wait_opened(timeout or self._timeout)
        return stream


class AsyncFrameStream:
    """As FrameStream: `await send(...)` and `async for answer in stream`, also from two tasks."""

    def __init__(
        self,
        stub: VoxelInferenceAsyncStub,
        model: str,
        options: StreamOptions,
        max_in_flight: int,
    ) -> None:
        self.notices: list[Notice] = []
        self._state = StreamState()
        self._max_in_flight = max_in_flight
        self._inbox: asyncio.Queue[Answer | None] = asyncio.Queue()
        self._sending = asyncio.Lock()  # the chunks of one frame stay together
        self._changed = asyncio.Condition()  # an answer or `opened` came, or the end
        self._closed_sending = False
        self._call = stub.StreamInfer()
        self._reader = asyncio.create_task(self._read(open_message(model, options)))

    @property
    def model(self) -> ModelDescription:
        """The model that answers."""
        assert self._state.model is not None  # open_stream waited for it
        return self._state.model

    @property
    def max_queued_frames(self) -> int:
        """Frames of this stream the server lets wait."""
        return self._state.max_queued_frames

    @property
    def num_unanswered(self) -> int:
        return self._state.num_unanswered

    async def send(self, frame: Frame, *, chunk_rows: int | None = None) -> str:
        """As FrameStream.send; for a timeout wrap it in asyncio.timeout."""
        if chunk_rows is not None:
            return await self.send_parts(split_frame(frame, chunk_rows), frame.frame_id)
        async with self._sending:
            frame_id = await self._admit(frame.frame_id)
            request = pb.StreamRequest()
            try:
                named = dataclasses.replace(frame, frame_id=frame_id)
                pack_frame(request.frame, named, self._state.max_frame_bytes)
            except BaseException:
                self._state.forget(frame_id)
                raise
            await self._write(request)
        return frame_id

    async def send_parts(self, parts: Iterable[Frame], frame_id: str = "") -> str:
        """As FrameStream.send_parts."""
        async with self._sending:
            frame_id = await self._admit(frame_id)
            num_sent = 0
            try:
                for message in chunk_messages(parts, frame_id, self._state.max_frame_bytes):
                    self._state.restart_clock(frame_id)
                    await self._write(message)
                    num_sent += 1
            except BaseException:
                if num_sent:
                    await self._write(pb.StreamRequest(cancel_frame_id=frame_id))
                else:
                    self._state.forget(frame_id)
                raise
        return frame_id

    async def cancel(self, frame_id: str) -> None:
        """As FrameStream.cancel."""
        await self._write(pb.StreamRequest(cancel_frame_id=frame_id))

    async def close_sending(self) -> None:
        """As FrameStream.close_sending."""
        async with self._sending:
            if not self._closed_sending:
                self._closed_sending = True
                if not self._call.done():
                    await self._call.done_writing()

    async def close(self) -> None:
        """As FrameStream.close."""
        self._closed_sending = True
        self._call.cancel()
        await self._reader

    async def __aenter__(self) -> AsyncFrameStream:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def receive(self) -> Answer | None:
        """The next answer; None when the stream is over and everything was fetched."""
        answer = await self._inbox.get()
        if answer is None:
            self._inbox.put_nowait(None)  # for the next call, or another task's
        return answer

    async def __aiter__(self) -> AsyncIterator[Answer]:
        while (answer := await self.receive()) is not None:
            yield answer

    async def _admit(self, frame_id: str) -> str:
        if self._closed_sending:
            raise VoxgateRpcError(grpc.StatusCode.FAILED_PRECONDITION, "sending was closed")
        if self._max_in_flight:
            async with self._changed:
                await self._changed.wait_for(self._has_room)
        return self._state.register(frame_id)

    def _has_room(self) -> bool:
        return self._state.end_error is not None or self._state.num_unanswered < self._max_in_flight

    async def _write(self, message: pb.StreamRequest) -> None:
        try:
            await self._call.write(message)
        except (grpc.RpcError, asyncio.InvalidStateError):
            # The stream is over; the reader answers this frame with the others left.
            await asyncio.shield(self._reader)

    async def _wait_opened(self, timeout: float) -> None:
        try:
            async with asyncio.timeout(timeout), self._changed:
                await self._changed.wait_for(
                    lambda: self._state.model is not None or self._state.end_error is not None
                )
        except TimeoutError:
            await self.close()
            raise VoxgateRpcError(
                grpc.StatusCode.DEADLINE_EXCEEDED, f"the stream was not accepted in {timeout} s"
            ) from None
        except asyncio.CancelledError:
            await self.close()
            raise
        if self._state.model is None and self._state.end_error is not None:
            raise self._state.end_error

    async def _read(self, opening: pb.StreamRequest) -> None:
        try:
            await self._call.write(opening)
            async for response in self._call:
                answer = self._state.receive(response)
                if isinstance(answer, Notice):
                    self.notices.append(answer)
                elif answer is not None:
                    self._inbox.put_nowait(answer)
                await self._notify()
        except (grpc.RpcError, asyncio.InvalidStateError, asyncio.CancelledError):
            # However the call ended (a write that found it over, a cancel from this side), it knows
            # its own status.
            self._call.cancel()
        finally:
            code, details = await self._call.code(), await self._call.details()
            for failure_answer in self._state.end(code, details or "the server closed the stream"):
                self._inbox.put_nowait(failure_answer)
            self._inbox.put_nowait(None)
            await self._notify()

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()
