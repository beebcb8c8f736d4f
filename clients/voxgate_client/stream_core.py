# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""The rules of a client's stream over all its connections: frames, answers, reconnecting.

Does no I/O, keeps no thread and no lock. A stream lives through a row of connections, each one
StreamInfer call, numbered by epoch. The face around it opens those calls, writes what
`next_message` gives, passes on what arrives, and calls `poll` at `wake_at`.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeAlias

import grpc

from voxgate_client.backoff import Backoff
from voxgate_client.frame_book import FrameBook, PendingFrame
from voxgate_client.messages import (
    Answer,
    FrameFailure,
    MessageError,
    ModelDescription,
    Notice,
    VoxgateRpcError,
    parse_model,
    parse_result,
    status_code,
)
from voxgate_protos import voxel_inference_pb2 as pb

_LOG = logging.getLogger(__name__)

# With these the server itself ended the stream, and the status answers the stream's open frames.
# Every other end is a broken stream to the caller, whatever the transport calls it.
_DELIBERATE = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.UNIMPLEMENTED,
}


class Pull(Enum):
    """What a connection's writer does when there is no message."""

    WAIT = "until something changes"
    DONE = "close the sending side"


@dataclass(frozen=True)
class Connect:
    """Open a call under this epoch."""

    epoch: int


@dataclass(frozen=True)
class HangUp:
    """Cancel this epoch's call; nothing that still comes of it matters."""

    epoch: int


Action: TypeAlias = Connect | HangUp


@dataclass(slots=True, eq=False)
class _Connection:
    epoch: int
    open_by: float
    opening_sent: bool = False
    opened_at: float | None = None
    draining: bool = False
    half_closed: bool = False
    cancels: deque[bytes] = field(default_factory=deque)


class StreamCore:
    """Every admitted frame gets exactly one answer, whatever happens to the connections.

    Args:
        opening: the serialised first message of every connection.
        latest, max_waiting, max_in_flight: as FrameBook.
        resend: send frames again that a broken or draining connection left unanswered.
        backoff: when to connect again; None: the first connection is the only one.
        open_timeout: seconds a further connection may take to be accepted.
        clock, random: seconds that only grow; floats in [0, 1).
        parse_outputs: False leaves FrameResult.outputs empty.
    """

    def __init__(
        self,
        opening: bytes,
        *,
        latest: bool,
        max_waiting: int,
        max_in_flight: int,
        resend: bool,
        backoff: Backoff | None,
        open_timeout: float,
        clock: Callable[[], float],
        random: Callable[[], float],
        parse_outputs: bool = True,
    ) -> None:
        self._opening = opening
        self._backoff = backoff
        self._open_timeout = open_timeout
        self._clock = clock
        self._random = random
        self._parse_outputs = parse_outputs
        self._book = FrameBook(
            latest=latest,
            max_waiting=max_waiting,
            max_in_flight=max_in_flight,
            resend=resend and backoff is not None,
            clock=clock,
        )
        self._connections: dict[int, _Connection] = {}
        self._current: _Connection | None = None  # takes new frames
        self._last_epoch = 0
        self._connect_at: float | None = clock()
        self._failures = 0  # connections since the last that got anything done
        self._down_since = clock()
        self._hang_ups: list[HangUp] = []
        self._closed = False
        self._end: VoxgateRpcError | None = None

        self.notices: deque[Notice] = deque()
        self.model: ModelDescription | None = None
        self.max_frame_bytes = 0
        self.max_queued_frames = 0

    @property
    def answers(self) -> deque[Answer]:
        """For the caller to take from the left."""
        return self._book.answers

    @property
    def num_unanswered(self) -> int:
        return len(self._book)

    @property
    def end_error(self) -> VoxgateRpcError | None:
        """Why the stream takes no more frames; None while it does, or only sending was closed."""
        return self._end

    @property
    def over(self) -> bool:
        """Nothing follows: no answer, no notice, no connection."""
        ending = self._end is not None or self._closed
        return ending and not len(self._book) and not self._connections

    # Frames -------------------------------------------------------------------------------------

    def has_room(self) -> bool:
        """Whether `admit` may be called now: there is room, or it would raise."""
        return self._closed or self._end is not None or self._book.has_room

    def admit(self, frame_id: str, deadline: float = math.inf) -> PendingFrame:
        """Takes up a frame, whose messages follow with `add`.

        Args:
            frame_id: "" chooses one.
            deadline: on the core's clock; a frame not begun to be sent then is not sent.

        Raises:
            MessageError: a frame of that id is unanswered.
            VoxgateRpcError: the stream is over, or sending was closed.
        """
        if self._end is not None:
            raise VoxgateRpcError(grpc.StatusCode.UNAVAILABLE, f"stream is over: {self._end}")
        if self._closed:
            raise VoxgateRpcError(grpc.StatusCode.FAILED_PRECONDITION, "sending was closed")
        return self._book.admit(frame_id, deadline)

    def add(self, frame: PendingFrame, message: bytes, *, last: bool = True) -> bool:
        """The next message of a frame; False when the frame wants no more.

        The client-seen time counts from the last one.
        """
        return self._book.add(frame, message, last)

    def forget(self, frame: PendingFrame) -> None:
        """Drops a frame that could not be made: no answer if nothing was added to it."""
        if frame.stopped:
            return
        if frame.messages:
            self.cancel(frame.frame_id)
        else:
            self._book.remove(frame)
        self._tidy()

    def cancel(self, frame_id: str) -> None:
        """A waiting frame is answered here; one under way is taken back from the server."""
        frame = self._book.get(frame_id)
        if frame is None or frame.stopped:
            return
        if frame.epoch:
            self._book.stop(frame)
            request = pb.StreamRequest(cancel_frame_id=frame_id)
            self._connections[frame.epoch].cancels.append(request.SerializeToString())
        else:
            self._book.fail(frame, grpc.StatusCode.CANCELLED, "cancelled before it was sent")
        self._tidy()

    def close_sending(self) -> None:
        """No frame follows; the stream is over after the last answer."""
        self._closed = True
        self._tidy()

    def close(self) -> None:
        """Ends everything now; what is unanswered is answered CANCELLED."""
        self._closed = True
        self._finish(grpc.StatusCode.CANCELLED, "closed by the caller")
        self._hang_ups += [HangUp(epoch) for epoch in self._connections]
        self._connections.clear()
        self._current = None
        for frame in self._book.unanswered():
            self._book.fail(frame, grpc.StatusCode.CANCELLED, "closed by the caller")

    # Connections --------------------------------------------------------------------------------

    def wake_at(self) -> float:
        """When `poll` has to be called next if nothing else happens."""
        if self._hang_ups:
            return -math.inf
        times = [c.open_by for c in self._connections.values() if c.opened_at is None]
        if self._connect_at is not None:
            times.append(self._connect_at)
        return min([*times, self._book.next_deadline])

    def poll(self) -> list[Action]:
        """Answers frames that waited too long, and says what to do about connections."""
        self._book.expire()
        now = self._clock()
        late = [c for c in self._connections.values() if c.opened_at is None and c.open_by <= now]
        for connection in late:
            self._hang_ups.append(HangUp(connection.epoch))
            details = f"the stream was not accepted in {self._open_timeout} s"
            self.ended(connection.epoch, grpc.StatusCode.DEADLINE_EXCEEDED, details)
        self._tidy()
        actions: list[Action] = list(self._hang_ups)
        self._hang_ups.clear()
        if self._connect_at is not None and self._connect_at <= now:
            self._connect_at = None
            self._last_epoch += 1
            # The first one's time is the caller's, who waits for it.
            limit = math.inf if self._last_epoch == 1 else now + self._open_timeout
            self._current = _Connection(self._last_epoch, limit)
            self._connections[self._last_epoch] = self._current
            actions.append(Connect(self._last_epoch))
        return actions

    def next_message(self, epoch: int) -> bytes | Pull:
        """What this connection writes next. A message given counts as sent."""
        connection = self._connections.get(epoch)
        if connection is None or connection.half_closed:
            return Pull.DONE
        if not connection.opening_sent:
            connection.opening_sent = True
            return self._opening
        if connection.cancels:
            return connection.cancels.popleft()
        # Frames wait for `opened`: a server that does not accept the stream costs none of them.
        if connection is self._current and connection.opened_at is not None:
            message = self._book.next_message(epoch)
            if message is not None:
                return message
            connection.half_closed = self._closed and not self._book.has_waiting
        elif connection.draining:
            connection.half_closed = not self._book.carried_by(epoch)
        return Pull.DONE if connection.half_closed else Pull.WAIT

    def wants_writer(self) -> bool:
        """Whether a writer that waits may have something to do."""
        if self._closed or self._book.has_waiting:
            return True
        return any(c.cancels or c.draining for c in self._connections.values())

    def receive(self, epoch: int, response: pb.StreamResponse) -> None:
        """One message from the server, on this connection."""
        connection = self._connections.get(epoch)
        if connection is None:
            return
        kind = response.WhichOneof("message")
        if kind == "opened":
            self._receive_opened(connection, response.opened)
        elif kind == "result":
            self._receive_result(connection, response.result)
        elif kind == "error":
            self._receive_error(connection, response.error)
        elif kind == "notice":
            self._receive_notice(connection, response.notice)
        self._tidy()

    def ended(self, epoch: int, code: grpc.StatusCode, details: str) -> None:
        """The connection is over; what it left unanswered is answered or sent again."""
        connection = self._connections.pop(epoch, None)
        if connection is None:
            return
        lost = connection is self._current
        if lost:
            self._current = None
            self._note_progress(connection)
            if self._is_final(code):
                self._finish(code, details)
        answer = _answer_of_end(code, details)
        for frame in self._book.carried_by(epoch):
            if code not in _DELIBERATE and self._may_send_again(frame):
                self._book.send_again(frame)
            else:
                self._book.fail(frame, *answer)
        if self._end is not None:
            for frame in self._book.waiting():
                self._book.fail(frame, *answer)
        elif lost and self._needs_connection():
            self._reconnect(f"{code.name}: {details}", at_once=False)
        self._tidy()

    # What the server says -----------------------------------------------------------------------

    def _receive_opened(self, connection: _Connection, opened: pb.StreamOpened) -> None:
        connection.opened_at = self._clock()
        again = self.model is not None
        self.model = parse_model(opened.model)
        self.max_frame_bytes = opened.max_frame_bytes
        self.max_queued_frames = opened.max_queued_frames
        if again:
            seconds = self._clock() - self._down_since
            message = f"a new stream is open after {seconds:.3g} s"
            self.notices.append(Notice("RECONNECTED", message, self.model))

    def _receive_result(self, connection: _Connection, result: pb.InferResponse) -> None:
        frame = self._answered(connection, result.frame_id)
        if frame is None:
            _LOG.warning("result for frame %r, which is not unanswered, dropped", result.frame_id)
            return
        seconds = self._book.remove(frame)
        try:
            answer: Answer = parse_result(result, seconds, parse_outputs=self._parse_outputs)
        except MessageError as error:
            answer = FrameFailure(frame.frame_id, grpc.StatusCode.INTERNAL, str(error), seconds)
        self.answers.append(answer)

    def _receive_error(self, connection: _Connection, error: pb.FrameError) -> None:
        code = status_code(error.code)
        frame = self._answered(connection, error.frame_id)
        if frame is None:
            message = f"frame {error.frame_id!r}: {code.name}: {error.message}"
            self.notices.append(Notice("UNMATCHED", message))
            return
        moving = connection.draining and code is grpc.StatusCode.UNAVAILABLE
        if moving and self._may_send_again(frame):
            self._book.send_again(frame)
        else:
            self._book.fail(frame, code, error.message)

    def _answered(self, connection: _Connection, frame_id: str) -> PendingFrame | None:
        """The frame, if this connection carries it: another's answer to its id is not its own."""
        frame = self._book.get(frame_id)
        if frame is None or frame.epoch != connection.epoch:
            return None
        if connection is self._current:  # what a draining one still says brings no new one nearer
            self._failures = 0
        return frame

    def _receive_notice(self, connection: _Connection, notice: pb.ServerNotice) -> None:
        model = parse_model(notice.model) if notice.HasField("model") else None
        known = notice.kind in pb.ServerNotice.Kind.values()
        name = pb.ServerNotice.Kind.Name(notice.kind) if known else str(notice.kind)
        if notice.kind == pb.ServerNotice.DRAINING:
            if connection.draining or connection.opened_at is None:
                return  # a server that stops while it is asked: what follows is the end
            connection.draining = True
        self.notices.append(Notice(name, notice.message, model))
        if notice.kind == pb.ServerNotice.MODEL_RELOADED and model is not None:
            self.model = model
        if connection.draining and connection is self._current and self._backoff is not None:
            self._move_over(connection)

    def _move_over(self, connection: _Connection) -> None:
        """New frames go to a new connection; this one is only read out."""
        self._current = None
        self._note_progress(connection)
        # The rest of a frame that is half sent would be refused; the server answers what it has.
        for frame in self._book.carried_by(connection.epoch):
            if self._book.may_send_again(frame):
                self._book.take_out(frame)
            elif not frame.complete or frame.written < len(frame.messages):
                self._book.stop(frame)
        if self._needs_connection():
            self._reconnect("the server is draining", at_once=True)

    # Whether and when to connect ----------------------------------------------------------------

    def _needs_connection(self) -> bool:
        return self._end is None and (not self._closed or self._book.has_waiting)

    def _may_send_again(self, frame: PendingFrame) -> bool:
        return self._end is None and self._book.may_send_again(frame)

    def _note_progress(self, connection: _Connection) -> None:
        """A connection that held for a while makes the next failure a first one."""
        if connection.opened_at is None:
            return
        self._down_since = self._clock()
        lasted = self._down_since - connection.opened_at
        if self._backoff is not None and lasted > self._backoff.maximum:
            self._failures = 0

    def _reconnect(self, reason: str, *, at_once: bool) -> None:
        """`at_once` waits only where the connection before it got nothing done either."""
        assert self._backoff is not None
        if at_once and not self._failures:
            delay = 0.0
        else:
            delay = self._backoff.delay(max(0, self._failures - at_once), self._random)
        self._failures += 1
        self._connect_at = self._clock() + delay
        self.notices.append(Notice("RECONNECTING", f"in {delay:.3g} s: {reason}"))

    def _is_final(self, code: grpc.StatusCode) -> bool:
        if self._backoff is None or self.model is None or code in _DELIBERATE:
            return True
        limit = self._backoff.give_up_after
        return limit is not None and self._clock() - self._down_since >= limit

    def _finish(self, code: grpc.StatusCode, details: str) -> None:
        self._connect_at = None
        if self._end is None:
            self._end = VoxgateRpcError(code, details)

    def _tidy(self) -> None:
        """Connects where a frame needs it, and gives up a connection that none will need."""
        current = self._current
        if current is not None and current.half_closed and self._book.has_waiting:
            current = self._current = None  # a frame came back after sending was closed
        if self._needs_connection():
            if current is None and self._connect_at is None and self._backoff is not None:
                self._reconnect("frames are to be sent again", at_once=True)
            return
        self._connect_at = None
        if current is not None and current.opened_at is None:
            self._current = None
            del self._connections[current.epoch]
            self._hang_ups.append(HangUp(current.epoch))


def _answer_of_end(code: grpc.StatusCode, details: str) -> tuple[grpc.StatusCode, str]:
    """How a connection's end answers the frames it left."""
    if code in _DELIBERATE:
        return code, details
    message = f"stream ended before the answer ({code.name}: {details})"
    return grpc.StatusCode.UNAVAILABLE, message
