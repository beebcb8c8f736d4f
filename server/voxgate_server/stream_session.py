# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""One `StreamInfer` call: reads messages, acts on what `StreamState` says, writes answers.

One task reads, one writes; everything between them runs on the event loop without awaiting, so
that no answer can slip between a check and what is done about it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from google.protobuf.message import DecodeError

from voxgate_protos import voxel_inference_pb2 as pb
from voxgate_server.codec import OutputSpec
from voxgate_server.engine import Execution
from voxgate_server.errors import (
    Draining,
    FrameCancelled,
    InvalidRequest,
    Outcome,
    Overloaded,
    RequestError,
    outcome_of,
    wire_code,
)
from voxgate_server.metrics import FrameCount, ModelMetrics
from voxgate_server.scheduler import StreamQueue
from voxgate_server.serving import ServedModel, Ticket
from voxgate_server.settings import Settings
from voxgate_server.streams import Arrival, Broken, Event, StreamState

log = logging.getLogger(__name__)

DRAINING_MESSAGE = "the server is stopping: open a new stream elsewhere"


class Call(Protocol):
    """The part of `grpc.aio.ServicerContext` that a stream uses."""

    async def read(self) -> object: ...
    async def write(self, message: bytes, /) -> None: ...


@dataclass(frozen=True, slots=True)
class _Outgoing:
    """A message to write; `count` finishes with `outcome` once gRPC has accepted it."""

    raw: bytes
    count: FrameCount | None = None
    outcome: Outcome = "ok"


class _CallBroken(Exception):
    """The client is gone: nothing more can be written."""


class StreamSession:
    """Serves one stream. `run` returns when it ends well and raises RequestError when it is ended.

    Args:
        call: reads and writes raw messages.
        settings: limits and pauses.
        find_model: the served model of a name and version; raises RequestError.
        unknown: the metrics of frames that reach no model.
    """

    def __init__(
        self,
        call: Call,
        settings: Settings,
        find_model: Callable[[str, str], ServedModel],
        unknown: ModelMetrics,
    ) -> None:
        self._call = call
        self._settings = settings
        self._find_model = find_model
        self._metrics = unknown
        self._open: _OpenStream | None = None
        self._tickets: dict[str, Ticket] = {}
        self._encoding: set[asyncio.Task[None]] = set()
        self._outbox: asyncio.Queue[_Outgoing | None] = asyncio.Queue()
        self._max_unwritten = settings.queued_frames
        self._writable = asyncio.Event()
        self._writable.set()
        self._half_closed = False
        self._draining = False
        self._chunk_timer: asyncio.TimerHandle | None = None
        self._end: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        """Serve until the client half-closes and everything is answered, or the server drains.

        Raises:
            RequestError: the stream ends with this error's status.
        """
        reader = asyncio.create_task(self._read_all())
        writer = asyncio.create_task(self._write_all())
        try:
            try:
                await self._end
            finally:
                reader.cancel()
            self._outbox.put_nowait(None)
            await writer
        except RequestError:
            # Answers that were ready before the stream went wrong still go out.
            self._outbox.put_nowait(None)
            with contextlib.suppress(_CallBroken):
                await writer
            raise
        except _CallBroken:
            log.debug("stream broken by its client")
        finally:
            self._hang_up()
            for task in (reader, writer):
                task.cancel()
            await asyncio.gather(reader, writer, return_exceptions=True)

    def begin_drain(self) -> None:
        """Tell the client, refuse new frames, and end once the admitted ones are answered."""
        if self._draining:
            return
        self._draining = True
        notice = pb.ServerNotice(kind=pb.ServerNotice.DRAINING, message=DRAINING_MESSAGE)
        self._send(pb.StreamResponse(notice=notice))
        if self._open is not None:
            self._handle_broken(self._open.state.give_up(Draining(DRAINING_MESSAGE)))
        self._check_end()

    def expire(self) -> None:
        """End a drain that took too long: what is unanswered gets UNAVAILABLE."""
        for ticket in list(self._tickets.values()):
            self._withdraw(ticket)
            self._fail(ticket, Draining("the server stopped before this frame was answered"))
        self._check_end()

    # Reading ------------------------------------------------------------------------------------

    async def _read_all(self) -> None:
        try:
            while True:
                if not self._arriving or self._outbox.qsize() > 2 * self._max_unwritten:
                    await self._writable.wait()
                raw = await self._read()
                if not isinstance(raw, bytes):  # grpc.aio.EOF
                    break
                await self._handle(raw, time.monotonic())
                self._arm_chunk_timer()
            self._half_closed = True
            if self._open is not None:
                self._handle_broken(self._open.state.half_close())
            self._check_end()
        except RequestError as error:
            self._end_with(error)
        except _CallBroken as error:
            self._end_with(error)
        except Exception as error:
            log.exception("stream reader failed")
            self._end_with(error)

    @property
    def _arriving(self) -> bool:
        """A frame is arriving in chunks, which time out: it is read on for a while."""
        return self._open is not None and self._open.state.arriving

    async def _read(self) -> object:
        try:
            return await self._call.read()
        except Exception as error:  # gRPC raises its own, its core's and asyncio's here
            log.debug("stream cannot be read: %s", error)
            raise _CallBroken from error

    async def _handle(self, raw: bytes, now: float) -> None:
        try:
            request = pb.StreamRequest.FromString(raw)
        except DecodeError as error:
            self._refuse("", InvalidRequest(f"message of {len(raw)} bytes: not parsable: {error}"))
            return
        kind = request.WhichOneof("message")
        if kind is None:
            message = f"message of {len(raw)} bytes: none of open, frame, chunk, cancel_frame_id"
            self._refuse("", InvalidRequest(message))
        elif kind == "open":
            self._open_stream(request.open)
        elif self._open is None:
            raise InvalidRequest(f"the first message must be open, got {kind}")
        elif kind == "frame":
            await self._act(self._open.state.frame(request.frame, now))
        elif kind == "chunk":
            await self._act(self._open.state.chunk(request.chunk, now, len(raw)))
        else:
            self._cancel(request.cancel_frame_id)

    def _open_stream(self, request: pb.StreamOpen) -> None:
        if self._open is not None:
            raise InvalidRequest("a stream is opened once, got a second open")
        if self._draining:
            raise Draining(DRAINING_MESSAGE)
        self._open = opened = _OpenStream(request, self._find_model, self._settings)
        self._metrics = opened.served.metrics
        self._max_unwritten = opened.queue.max_waiting
        answer = pb.StreamOpened(
            model=opened.served.model.info(),
            max_frame_bytes=opened.served.engine.frame_spec.max_bytes,
            max_queued_frames=opened.queue.max_waiting,
        )
        self._send(pb.StreamResponse(opened=answer))

    async def _act(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, Broken):
                self._refuse(event.frame_id, event.error)
            else:
                await self._admit(event)

    async def _admit(self, arrival: Arrival) -> None:
        opened = self._opened
        ticket = Ticket(arrival, self._metrics.frame_received())
        self._tickets[arrival.frame_id] = ticket
        try:
            if self._draining:
                raise Draining(DRAINING_MESSAGE)
            await opened.served.enqueue(
                ticket,
                opened.outputs,
                opened.queue,
                lambda outcome: self._resolve(ticket, outcome),
                arrival.last_at + opened.frame_deadline,
            )
        except RequestError as error:
            self._fail(ticket, error)
            if isinstance(error, Overloaded):
                # A flooder that is read on would take its neighbours' time with its refusals.
                await asyncio.sleep(self._settings.overload_pause)

    def _cancel(self, frame_id: str) -> None:
        self._handle_broken(self._opened.state.cancel(frame_id))
        ticket = self._tickets.get(frame_id)
        if ticket is not None and self._withdraw(ticket):
            self._fail(ticket, FrameCancelled("cancelled by the client while waiting"))

    def _withdraw(self, ticket: Ticket) -> bool:
        return ticket.job is not None and self._opened.served.scheduler.cancel(ticket.job)

    def _arm_chunk_timer(self) -> None:
        if self._chunk_timer is not None:
            self._chunk_timer.cancel()
            self._chunk_timer = None
        deadline = None if self._open is None else self._open.state.chunk_deadline
        if deadline is not None and not self._end.done():
            delay = max(0.0, deadline - time.monotonic())
            self._chunk_timer = asyncio.get_running_loop().call_later(delay, self._chunk_overdue)

    def _chunk_overdue(self) -> None:
        self._handle_broken(self._opened.state.tick(time.monotonic()))
        self._arm_chunk_timer()
        self._check_end()

    # Answering ----------------------------------------------------------------------------------

    @property
    def _opened(self) -> _OpenStream:
        assert self._open is not None
        return self._open

    def _is_open(self, ticket: Ticket) -> bool:
        return self._tickets.get(ticket.arrival.frame_id) is ticket

    def _resolve(self, ticket: Ticket, outcome: Execution | RequestError) -> None:
        if not self._is_open(ticket):
            return  # the client hung up meanwhile
        if isinstance(outcome, RequestError):
            self._fail(ticket, outcome)
            return
        task = asyncio.create_task(self._respond(ticket, outcome))
        self._encoding.add(task)
        task.add_done_callback(self._encoding.discard)

    async def _respond(self, ticket: Ticket, execution: Execution) -> None:
        try:
            raw = await self._opened.served.respond(ticket, execution, in_stream=True)
        except RequestError as error:
            self._fail(ticket, error)
            return
        if self._is_open(ticket):
            del self._tickets[ticket.arrival.frame_id]
            result = _Outgoing(raw, ticket.count)
            self._put_all(self._opened.state.succeed(ticket.arrival.frame_id, result))

    def _fail(self, ticket: Ticket, error: RequestError) -> None:
        """Answer an admitted frame, unless it has its answer."""
        if not self._is_open(ticket):
            return
        frame_id = ticket.arrival.frame_id
        del self._tickets[frame_id]
        self._send_error(frame_id, error, ticket.count)
        self._put_all(self._opened.state.fail(frame_id))

    def _refuse(self, frame_id: str, error: RequestError) -> None:
        """Answer what never became an admitted frame."""
        self._send_error(frame_id, error, self._metrics.frame_received())

    def _handle_broken(self, events: list[Event]) -> None:
        for event in events:
            assert isinstance(event, Broken)
            self._refuse(event.frame_id, event.error)

    def _send_error(self, frame_id: str, error: RequestError, count: FrameCount) -> None:
        answer = pb.FrameError(frame_id=frame_id, code=wire_code(error), message=str(error))
        raw = pb.StreamResponse(error=answer).SerializeToString()
        self._put_all([_Outgoing(raw, count, outcome_of(error))])

    def _send(self, response: pb.StreamResponse) -> None:
        self._put_all([_Outgoing(response.SerializeToString())])

    # Writing and ending -------------------------------------------------------------------------

    def _put_all(self, messages: list[_Outgoing]) -> None:
        for message in messages:
            self._outbox.put_nowait(message)
        if self._outbox.qsize() > self._max_unwritten:
            self._writable.clear()
        self._check_end()

    async def _write_all(self) -> None:
        while (message := await self._outbox.get()) is not None:
            try:
                await self._call.write(message.raw)
                _finish(message, message.outcome)
            except Exception as error:  # gRPC raises its own, its core's and asyncio's here
                log.debug("stream cannot be written: %s", error)
                self._end_with(_CallBroken())
                raise _CallBroken from error
            finally:
                _finish(message, "cancelled")  # counts only where the write was not accepted
            if self._outbox.qsize() <= self._max_unwritten:
                self._writable.set()

    def _check_end(self) -> None:
        idle = self._open is None or (self._open.state.idle and not self._tickets)
        if (self._half_closed or self._draining) and idle and not self._end.done():
            self._end.set_result(None)

    def _end_with(self, error: Exception) -> None:
        if not self._end.done():
            self._end.set_exception(error)

    def _hang_up(self) -> None:
        """Count what was left unanswered as cancelled and let nothing of it run or be written."""
        if self._chunk_timer is not None:
            self._chunk_timer.cancel()
        if self._open is not None:
            for _ in self._open.state.give_up(FrameCancelled("the call ended")):
                self._metrics.frame_received().finish("cancelled")
            for held in self._open.state.held():
                _finish(held, "cancelled")
        for ticket in self._tickets.values():
            self._withdraw(ticket)
            ticket.count.finish("cancelled")
        self._tickets.clear()
        while not self._outbox.empty():
            message = self._outbox.get_nowait()
            if message is not None:
                _finish(message, "cancelled")


class _OpenStream:
    """What a stream's `open` asked for, checked and clipped."""

    def __init__(
        self,
        request: pb.StreamOpen,
        find_model: Callable[[str, str], ServedModel],
        settings: Settings,
    ) -> None:
        if request.policy not in pb.QueuePolicy.values():
            raise InvalidRequest(f"policy: {request.policy} is none of FIFO, LATEST")
        latest = request.policy == pb.LATEST
        self.frame_deadline = math.inf
        if request.HasField("frame_deadline"):
            seconds = request.frame_deadline.seconds + request.frame_deadline.nanos * 1e-9
            if seconds < 0:
                raise InvalidRequest(f"frame_deadline: {seconds:g} s, expected 0 (none) or more")
            self.frame_deadline = seconds or math.inf
        self.served = find_model(request.model, request.version)
        self.outputs: list[OutputSpec] = self.served.engine.select(request.outputs)
        asked = request.max_queued_frames or settings.queued_frames
        waiting = 1 if latest else min(asked, settings.max_queued_frames)
        self.queue = StreamQueue(waiting, latest)
        self.state: StreamState[_Outgoing] = StreamState(
            self.served.engine.frame_spec,
            settings.chunk_timeout,
            request.unordered,
            settings.grpc_receive_limit,
        )


def _finish(message: _Outgoing, outcome: Outcome) -> None:
    if message.count is not None:
        message.count.finish(outcome)
