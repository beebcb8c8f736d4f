# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""One `StreamInfer` call: reads messages, acts on what `StreamState` says, puts answers out.

One task reads, one writes; everything between them runs on the event loop without awaiting, so
that no answer can slip between a check and what is done about it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Protocol

from voxgate_protos import voxel_inference_pb2 as pb
from voxgate_server.admission import Admission
from voxgate_server.codec import ReadPart
from voxgate_server.engine import Execution
from voxgate_server.errors import (
    Draining,
    FrameCancelled,
    InvalidRequest,
    Overloaded,
    RequestError,
    outcome_of,
    wire_code,
)
from voxgate_server.logs import StreamLog
from voxgate_server.metrics import FrameCount, ModelMetrics
from voxgate_server.open_stream import OpenStream
from voxgate_server.outbox import CallBroken, FrameEnd, Outbox, Outgoing
from voxgate_server.security import Client
from voxgate_server.served_models import ServedModels
from voxgate_server.serving import ServedModel, Ticket, record_span
from voxgate_server.settings import Settings
from voxgate_server.streams import Arrival, Broken, Event
from voxgate_server.telemetry import FrameSpans, Metadata
from voxgate_server.wire import Parsed, parse

log = logging.getLogger(__name__)

DRAINING_MESSAGE = "the server is stopping: open a new stream elsewhere"
# Seconds that the client of a drained stream has to close it. If the server were first, while the
# client writes, grpc.aio would give that client none of the answers it has not read.
_LINGER = 1.0
# Seconds that the client of a stream that went wrong has to take its last answers.
_LAST_WORDS = 5.0


class Call(Protocol):
    """The part of `grpc.aio.ServicerContext` that a stream uses."""

    async def read(self) -> object: ...
    async def write(self, message: bytes, /) -> None: ...


class StreamSession:
    """Serves one stream. `run` returns when it ends well and raises RequestError when it is ended.

    Args:
        call: reads and writes raw messages.
        settings: limits and pauses.
        models: where the stream's model is found.
        client: who calls, and what it may use.
        admission: how many bytes and streams it may have here.
        unknown: the metrics of frames that reach no model.
        spans: takes a trace of every frame.
        metadata: what the call came with; it may name the span that the frames' belong to.
    """

    def __init__(
        self,
        call: Call,
        settings: Settings,
        models: ServedModels,
        client: Client,
        admission: Admission,
        unknown: ModelMetrics,
        spans: FrameSpans,
        metadata: Metadata = None,
    ) -> None:
        self.client = client
        self.open: OpenStream | None = None
        self._admission = admission
        self._account = admission.account(client)
        self._hold = admission.hold(self._account)
        self._log = StreamLog(log, time.monotonic(), client=client.name)
        self.outbox = Outbox(call.write, self._hold, self._log, settings.queued_frames)
        self._call = call
        self._settings = settings
        self._models = models
        self._unknown = unknown
        self._spans = spans
        self._parent = spans.parent(metadata)
        self._tickets: dict[str, Ticket] = {}
        self._encoding: set[asyncio.Task[None]] = set()
        self._half_closed = False
        self._draining = False
        self._starved = False
        self._chunk_timer: asyncio.TimerHandle | None = None
        self._linger: asyncio.TimerHandle | None = None
        self._end: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        """Serve until the client half-closes and everything is answered, or the server drains.

        Raises:
            RequestError: the stream ends with this error's status.
            CallBroken: its client has gone.
        """
        reader = asyncio.create_task(self._read_all())
        writer = asyncio.create_task(self._write_all())
        try:
            try:
                await self._end
            finally:
                reader.cancel()
            self._give_up_arriving()  # in a drain one may have begun since the end was decided
            self.outbox.close()
            await writer
        except RequestError:
            # Answers that were ready before the stream went wrong still go out, if they are taken.
            self.outbox.close()
            await asyncio.wait({writer}, timeout=_LAST_WORDS)
            raise
        finally:
            for task in (reader, writer):
                task.cancel()
            try:
                await asyncio.gather(reader, writer, return_exceptions=True)
            finally:
                self._hang_up()

    def begin_drain(self) -> None:
        """Tell the client, refuse new frames, and end once the admitted ones are answered."""
        if self._draining:
            return
        self._draining = True
        notice = pb.ServerNotice(kind=pb.ServerNotice.DRAINING, message=DRAINING_MESSAGE)
        self._send(pb.StreamResponse(notice=notice))
        self._give_up_arriving()
        self._check_end()

    def expire(self) -> None:
        """End a drain that took too long: what is unanswered gets UNAVAILABLE."""
        for ticket in list(self._tickets.values()):
            self._withdraw(ticket)
            self._fail(ticket, Draining("the server stopped before this frame was answered"))
        self._finish_drain()

    @property
    def served(self) -> ServedModel:
        """What answers the next frame."""
        return self._opened.next_served

    @property
    def pinned(self) -> bool:
        return self._opened.pinned

    def follow(self, served: ServedModel) -> None:
        """Another version answers this stream's frames from now on."""
        self._opened.follow(served)
        notice = pb.ServerNotice(
            kind=pb.ServerNotice.MODEL_RELOADED,
            message=f"version {served.model.version} answers from now on",
            model=served.model.info(),
        )
        self._send(pb.StreamResponse(notice=notice))

    def recheck(self, recheck: Callable[[Client], Client]) -> None:
        """Take over what the client may do by now.

        Raises:
            Unauthenticated: nothing at all.
            ModelNotFound: it may not use the stream's model any more.
        """
        self.client = recheck(self.client)
        self._account.update(self.client)
        if self.open is not None:
            self._models.check_visible(self.open.served.model.name, self.client)
            self.open.recheck(self.client)

    def end(self, error: RequestError) -> None:
        """End the stream with this error's status, which answers its open frames."""
        self._end_with(error)

    @property
    def held_bytes(self) -> int:
        """What the stream's frames and answers take of the server's budget."""
        return self._hold.size

    def log_end(self, code: str) -> None:
        """The one line about a stream that is over."""
        self._log.closed(code, time.monotonic())

    # Reading ------------------------------------------------------------------------------------

    async def _read_all(self) -> None:
        try:
            while True:
                await self._wait_until_readable()
                raw = await self._read()
                if not isinstance(raw, bytes):  # grpc.aio.EOF
                    # A connection that breaks ends the reading in the same way and only then
                    # cancels the call: what is read now comes behind that.
                    await self._read()
                    break
                await self._handle(raw, time.monotonic())
                self._arm_chunk_timer()
            self._half_closed = True
            if self.open is not None:
                self._break_arriving(self.open.state.half_close)
            self._check_end()
        except (RequestError, CallBroken) as error:
            self._end_with(error)
        except Exception as error:
            log.exception("stream reader failed")
            self._end_with(error)

    async def _wait_until_readable(self) -> None:
        """Hold the client back while it has too much here. Chunks time out, so a frame that is
        arriving is read on for a while; not so when memory is at its limit."""
        if not self._arriving or self.outbox.overfull:
            await self.outbox.wait_until_drained()
        self._starved = True
        await self._admission.wait_for_room(self._account)
        self._starved = False

    @property
    def _arriving(self) -> bool:
        return self.open is not None and self.open.state.arriving is not None

    async def _read(self) -> object:
        try:
            return await self._call.read()
        except Exception as error:  # gRPC raises its own, its core's and asyncio's here
            log.debug("stream cannot be read: %s", error)
            raise CallBroken from error

    async def _handle(self, raw: bytes, now: float) -> None:
        self._log.received_bytes += len(raw)
        try:
            parsed = parse(pb.StreamRequest, raw)
        except RequestError as error:
            self._refuse("", error)
            return
        request = parsed.message
        kind = request.WhichOneof("message")
        if kind is None:
            message = f"message of {len(raw)} bytes: none of open, frame, chunk, cancel_frame_id"
            self._refuse("", InvalidRequest(message))
        elif kind == "open":
            self._open_stream(request.open)
        elif self.open is None:
            raise InvalidRequest(f"the first message must be open, got {kind}")
        elif kind == "cancel_frame_id":
            self._cancel(request.cancel_frame_id)
        else:
            await self._take(parsed, len(raw), now)

    def _open_stream(self, request: pb.StreamOpen) -> None:
        if self.open is not None:
            raise InvalidRequest("a stream is opened once, got a second open")
        if self._draining:
            raise Draining(DRAINING_MESSAGE)
        self.open = opened = OpenStream(request, self._models, self.client, self._settings)
        self.outbox.max_unwritten = opened.max_queued_frames
        self._models.add_session(self)
        self._log.opened(
            model=opened.served.model.name,
            version=request.version or "newest",
            policy="LATEST" if request.policy == pb.LATEST else "FIFO",
            priority=opened.queue.priority,
        )
        answer = pb.StreamOpened(
            model=opened.served.model.info(),
            max_frame_bytes=opened.served.engine.frame_spec.max_bytes,
            max_queued_frames=opened.max_queued_frames,
        )
        self._send(pb.StreamResponse(opened=answer))

    async def _take(self, parsed: Parsed[pb.StreamRequest], size: int, now: float) -> None:
        """Act on a frame or a chunk of one."""
        opened = self._opened
        opened.served.metrics.add_received_bytes(size)
        state, request = opened.state, parsed.message
        held = state.arriving_bytes
        if request.WhichOneof("message") == "frame":
            events = state.frame(request.frame, now, size, parsed.arrays)
        else:
            events = state.chunk(request.chunk, now, size, parsed.arrays)
        arrived = sum(event.held_bytes for event in events if isinstance(event, Arrival))
        self._hold.add(arrived + state.arriving_bytes)
        self._hold.remove(held)
        for event in events:
            if isinstance(event, Broken):
                self._refuse(event.frame_id, event.error)
            else:
                await self._admit(event)
        if state.arriving is not None:
            self._begin_reads(state.arriving)
        opened.settle()

    def _begin_reads(self, arrival: Arrival) -> None:
        """Check the chunks that are here while the next one is on its way."""
        for part in arrival.parts[len(arrival.reads) :]:
            read = self._opened.served.begin_read(part)
            arrival.reads.append(read)
            read.add_done_callback(partial(self._check_read, arrival))

    def _check_read(self, arrival: Arrival, read: asyncio.Future[ReadPart]) -> None:
        error = None if read.cancelled() else read.exception()
        if isinstance(error, RequestError) and self._opened.state.arriving is arrival:
            self._break_arriving(lambda: self._opened.state.give_up(error))

    async def _admit(self, arrival: Arrival) -> None:
        opened = self._opened
        if arrival.reads:
            self._begin_reads(arrival)
        ticket = opened.served.admit(arrival)
        self._tickets[arrival.frame_id] = ticket
        try:
            if self._draining:
                raise Draining(DRAINING_MESSAGE)
            opened.check_usable()
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
        self._break_arriving(lambda: self._opened.state.cancel(frame_id))
        ticket = self._tickets.get(frame_id)
        if ticket is not None and self._withdraw(ticket):
            self._fail(ticket, FrameCancelled("cancelled by the client while waiting"))

    def _withdraw(self, ticket: Ticket) -> bool:
        return ticket.job is not None and ticket.served.scheduler.cancel(ticket.job)

    def _break_arriving(self, end: Callable[[], list[Event]]) -> None:
        """End the frame that is arriving, if `end` says so, and answer it."""
        opened = self._opened
        held = opened.state.arriving_bytes
        for event in end():
            assert isinstance(event, Broken)
            self._refuse(event.frame_id, event.error)
        self._hold.remove(held - opened.state.arriving_bytes)
        opened.settle()
        self._check_end()

    def _give_up_arriving(self) -> None:
        """Answer the frame that is arriving, if there is one: the server stops."""
        if self.open is not None:
            state = self.open.state
            self._break_arriving(lambda: state.give_up(Draining(DRAINING_MESSAGE)))

    def _arm_chunk_timer(self) -> None:
        if self._chunk_timer is not None:
            self._chunk_timer.cancel()
            self._chunk_timer = None
        deadline = None if self.open is None else self.open.state.chunk_deadline
        if deadline is not None and not self._end.done():
            delay = max(0.0, deadline - time.monotonic())
            self._chunk_timer = asyncio.get_running_loop().call_later(delay, self._chunk_overdue)

    def _chunk_overdue(self) -> None:
        state = self._opened.state
        if self._starved:
            error = Overloaded("in-flight bytes: no room for the frame's next chunk")
            self._break_arriving(lambda: state.give_up(error))
        else:
            self._break_arriving(lambda: state.tick(time.monotonic()))
        self._arm_chunk_timer()

    # Answering ----------------------------------------------------------------------------------

    @property
    def _opened(self) -> OpenStream:
        assert self.open is not None
        return self.open

    @property
    def _metrics(self) -> ModelMetrics:
        return self._unknown if self.open is None else self.open.served.metrics

    def _is_open(self, ticket: Ticket) -> bool:
        return self._tickets.get(ticket.arrival.frame_id) is ticket

    def _close(self, ticket: Ticket) -> None:
        del self._tickets[ticket.arrival.frame_id]
        self._hold.remove(ticket.arrival.held_bytes)
        ticket.served.leave(ticket)

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
            raw = await ticket.served.respond(ticket, execution, in_stream=True)
        except RequestError as error:
            self._fail(ticket, error)
            return
        if self._is_open(ticket):
            self._close(ticket)
            arrival = ticket.arrival
            end = FrameEnd(
                arrival.frame_id,
                ticket.count,
                ticket.served.metrics,
                captured_at=arrival.captured_at,
            )
            record_span(self._spans, ticket, "ok", self._parent)
            answer = Outgoing(raw, end)
            self.outbox.reserve(answer)
            self._put_all(self._opened.state.succeed(arrival.frame_id, answer))

    def _fail(self, ticket: Ticket, error: RequestError) -> None:
        """Answer an admitted frame, unless it has its answer."""
        if not self._is_open(ticket):
            return
        self._close(ticket)
        frame_id = ticket.arrival.frame_id
        record_span(self._spans, ticket, outcome_of(error), self._parent)
        self._send_error(frame_id, error, ticket.count, ticket.served.metrics)
        self._put_all(self._opened.state.fail(frame_id))

    def _refuse(self, frame_id: str, error: RequestError) -> None:
        """Answer what never became an admitted frame."""
        metrics = self._metrics
        self._send_error(frame_id, error, metrics.frame_received(), metrics)

    def _send_error(
        self, frame_id: str, error: RequestError, count: FrameCount, metrics: ModelMetrics
    ) -> None:
        answer = pb.FrameError(frame_id=frame_id, code=wire_code(error), message=str(error))
        raw = pb.StreamResponse(error=answer).SerializeToString()
        self._put(Outgoing(raw, FrameEnd(frame_id, count, metrics, error)))

    def _send(self, response: pb.StreamResponse) -> None:
        self._put(Outgoing(response.SerializeToString()))

    # Writing and ending -------------------------------------------------------------------------

    def _put(self, message: Outgoing) -> None:
        self.outbox.reserve(message)
        self._put_all([message])

    def _put_all(self, messages: list[Outgoing]) -> None:
        for message in messages:
            self.outbox.put(message)
        self._check_end()

    async def _write_all(self) -> None:
        try:
            await self.outbox.write_all()
        except CallBroken as error:
            self._end_with(error)
            raise

    def _check_end(self) -> None:
        idle = self.open is None or (self.open.state.idle and not self._tickets)
        if not idle or self._end.done():
            return
        if self._half_closed:
            self._end.set_result(None)
        elif self._draining and self._linger is None:
            self._linger = asyncio.get_running_loop().call_later(_LINGER, self._finish_drain)

    def _finish_drain(self) -> None:
        """End a drained stream: its client was told and has had its time."""
        self._give_up_arriving()
        if not self._end.done():
            self._end.set_result(None)

    def _end_with(self, error: Exception) -> None:
        if not self._end.done():
            self._end.set_exception(error)

    def _hang_up(self) -> None:
        """Count what was left unanswered as cancelled and let nothing of it run or be written."""
        for timer in (self._chunk_timer, self._linger):
            if timer is not None:
                timer.cancel()
        if self.open is not None:
            self._models.remove_session(self)
            self.open.close()
            for _ in self.open.state.give_up(FrameCancelled("the call ended")):
                self.outbox.count_cancelled(self._metrics.frame_received())
            for held in self.open.state.held():
                if held.end is not None:
                    self.outbox.count_cancelled(held.end.count)
        for ticket in list(self._tickets.values()):
            self._withdraw(ticket)
            self.outbox.count_cancelled(ticket.count)
            record_span(self._spans, ticket, "cancelled", self._parent)
            self._close(ticket)
        self.outbox.drop()
        self._hold.release()
