# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""The stream for asyncio: a `StreamCore` on one event loop, with gRPC's aio calls around it."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Iterable
from datetime import datetime
from types import TracebackType
from typing import Any

import grpc
import grpc.aio

from voxgate_client.channel import Endpoint
from voxgate_client.frame_book import PendingFrame
from voxgate_client.frame_messages import chunk_messages, split_frame
from voxgate_client.messages import Answer, Frame, StreamOptions, VoxgateRpcError, rpc_error
from voxgate_client.packed_frame import PackedFrame
from voxgate_client.stream_core import Connect, Pull
from voxgate_client.stream_face import SERVER_CLOSED, STREAM_METHOD, StreamBehavior, StreamFace
from voxgate_protos import voxel_inference_pb2 as pb


class AsyncFrameStream(StreamFace):
    """As FrameStream: `await send(...)` and `async for answer in stream`, also from two tasks."""

    def __init__(
        self,
        endpoint: Endpoint,
        channel: grpc.aio.Channel,
        model: str,
        options: StreamOptions,
        behavior: StreamBehavior,
        open_timeout: float,
    ) -> None:
        super().__init__(model, options, behavior, open_timeout)
        self._endpoint = endpoint
        self._first_channel = channel
        self._sending = asyncio.Lock()  # the chunks of one frame stay together
        self._changed = asyncio.Event()  # replaced when set: whoever waits looks again
        self._calls: dict[int, asyncio.Task[None]] = {}
        self._keeper = asyncio.create_task(self._keep(), name="voxgate-stream")

    async def send(
        self,
        frame: Frame | PackedFrame,
        *,
        frame_id: str = "",
        chunk_rows: int | None = None,
        deadline: float | None = None,
        captured_at: datetime | None = None,
    ) -> str:
        """As FrameStream.send; for a timeout wrap it in asyncio.timeout."""
        if isinstance(frame, Frame):
            frame_id = frame_id or frame.frame_id
            if chunk_rows is not None:
                return await self.send_parts(
                    split_frame(frame, chunk_rows), frame_id, deadline=deadline
                )
        async with self._sending:
            pending = await self._admit(frame_id, deadline)
            try:
                message = self._pack(frame, pending.frame_id, captured_at)
            except BaseException:
                self._core.forget(pending)
                self._wake()
                raise
            self._core.add(pending, message)
            self._wake()
        return pending.frame_id

    async def send_parts(
        self, parts: Iterable[Frame], frame_id: str = "", *, deadline: float | None = None
    ) -> str:
        """As FrameStream.send_parts."""
        async with self._sending:
            pending = await self._admit(frame_id, deadline)
            try:
                for message in chunk_messages(parts, pending.frame_id, self._core.max_frame_bytes):
                    last = message.chunk.last
                    wanted = self._core.add(pending, message.SerializeToString(), last=last)
                    self._wake()
                    if not wanted:
                        break
                    await asyncio.sleep(0)  # this part goes out while the next is made
            except BaseException:
                self._core.forget(pending)
                self._wake()
                raise
        return pending.frame_id

    async def cancel(self, frame_id: str) -> None:
        """As FrameStream.cancel."""
        self._core.cancel(frame_id)
        self._wake()

    async def close_sending(self) -> None:
        """As FrameStream.close_sending."""
        async with self._sending:
            self._core.close_sending()
            self._wake()

    async def close(self) -> None:
        """As FrameStream.close."""
        self._core.close()
        self._wake()
        for task in [self._keeper, *self._calls.values()]:
            if task is not asyncio.current_task():
                await asyncio.wait([task])

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
        core = self._core
        while not core.answers:
            if core.over:
                return None
            await self._changed.wait()
        return core.answers.popleft()

    async def __aiter__(self) -> AsyncIterator[Answer]:
        while (answer := await self.receive()) is not None:
            yield answer

    # Sending ------------------------------------------------------------------------------------

    async def _admit(self, frame_id: str, deadline: float | None) -> PendingFrame:
        expires_at = self._deadline(deadline)
        # A frame that expires here is taken up all the same: its answer says so.
        await self._wait_for(self._core.has_room, expires_at)
        return self._core.admit(frame_id, expires_at)

    async def _wait_for(self, condition: Callable[[], bool], until: float) -> bool:
        """Waits on changes of the core; False when `until`, on its clock, came first."""
        loop = asyncio.get_running_loop()
        when = None if until == math.inf else loop.time() + until - time.monotonic()
        try:
            async with asyncio.timeout_at(when):
                while not condition():
                    await self._changed.wait()
        except TimeoutError:
            return condition()
        return True

    # Connections --------------------------------------------------------------------------------

    async def wait_opened(self, timeout: float) -> None:
        """Waits until the server has accepted the stream; raises as `open_stream`."""
        core = self._core
        try:
            until = time.monotonic() + timeout
            await self._wait_for(lambda: core.model is not None or core.over, until)
        except asyncio.CancelledError:
            await self.close()
            raise
        if core.model is not None:
            return
        end = core.end_error
        await self.close()
        raise end or VoxgateRpcError(
            grpc.StatusCode.DEADLINE_EXCEEDED, f"the stream was not accepted in {timeout} s"
        )

    async def _keep(self) -> None:
        """Opens and cancels calls as the core says, until the stream is over."""
        while True:
            actions = self._core.poll()
            for action in actions:
                if isinstance(action, Connect):
                    call = asyncio.create_task(self._call(action.epoch), name="voxgate-answers")
                    self._calls[action.epoch] = call
                elif (open_call := self._calls.get(action.epoch)) is not None:
                    open_call.cancel()
            if actions or self._core.notices or self._core.answers:
                self._wake()
            if self._core.over:
                return
            changed, wake_at = self._changed, self._core.wake_at()
            wait = None if wake_at == math.inf else max(0.0, wake_at - time.monotonic())
            try:
                await asyncio.wait_for(changed.wait(), wait)
            except TimeoutError:
                continue

    async def _call(self, epoch: int) -> None:
        """One connection from its call to its end."""
        channel = None
        code, details = grpc.StatusCode.OK, SERVER_CLOSED
        writer: asyncio.Task[None] | None = None
        try:
            if epoch > 1:
                channel = self._endpoint.aio_channel(own_connection=True)
            open_call: Any = (channel or self._first_channel).stream_stream(
                STREAM_METHOD, None, pb.StreamResponse.FromString
            )
            call = open_call(metadata=self._endpoint.metadata)
            writer = asyncio.create_task(self._write_all(epoch, call))
            async for response in call:
                self._core.receive(epoch, response)
                self._wake()
            code, details = await call.code(), await call.details() or details
        except grpc.RpcError as error:
            failure = rpc_error(error)
            code, details = failure.code, failure.message
        except (OSError, ValueError, grpc.aio.UsageError) as error:
            # A certificate that cannot be read now, or the client was closed meanwhile.
            code, details = grpc.StatusCode.UNAVAILABLE, str(error)
        except asyncio.CancelledError:
            code, details = grpc.StatusCode.CANCELLED, "the call was cancelled"
        finally:
            self._calls.pop(epoch, None)
            self._core.ended(epoch, code, details)
            self._wake()
            if writer is not None:
                writer.cancel()
                call.cancel()
                await asyncio.wait([writer])
            if channel is not None:
                await channel.close()

    async def _write_all(self, epoch: int, call: Any) -> None:
        try:
            while True:
                changed = self._changed
                message = self._core.next_message(epoch)
                if message is Pull.DONE:
                    await call.done_writing()
                    return
                if isinstance(message, Pull):
                    await changed.wait()
                    continue
                await call.write(message)
                if self._core.answers:
                    self._wake()
        except (grpc.RpcError, asyncio.InvalidStateError, asyncio.CancelledError):
            return  # the stream is over; the reader knows its status

    def _wake(self) -> None:
        """Lets everyone who waits look at the core again, and tells notices."""
        self._changed.set()
        self._changed = asyncio.Event()
        self._tell(self._take_notices())
