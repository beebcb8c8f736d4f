# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""The frames of one stream from `admit` to their answers, and the queue of those to be sent.

Pure state, as `stream_core`, which owns it and knows the connections.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import grpc

from voxgate_client.messages import Answer, FrameFailure, MessageError

# A frame that breaks every stream it is sent on is not sent for ever.
_MAX_SENDS = 3


@dataclass(slots=True, eq=False)
class PendingFrame:
    """A frame that has no answer yet. Only the book and the core change it."""

    frame_id: str
    sequence: int
    started_at: float
    admitted_at: float
    deadline_at: float
    messages: list[bytes] = field(default_factory=list)
    complete: bool = False  # all its messages are here
    written: int = 0  # of its messages
    epoch: int = 0  # the connection that carries it; 0: waiting
    sends: int = 0
    stopped: bool = False  # answered or cancelled: further messages of it are dropped


class FrameBook:
    """Every admitted frame leaves with one answer in `answers`, or is removed unanswered.

    Args:
        latest: a newer frame replaces the one that waits to be sent.
        max_waiting: frames that may wait to be sent (FIFO).
        max_in_flight: frames that may be unanswered at once; 0: no limit. Under `latest` it holds
            back the waiting frame, else it is part of `has_room`.
        resend: keep what was sent until it is answered, for `send_again`.
        clock: seconds that only grow.
    """

    def __init__(
        self,
        *,
        latest: bool,
        max_waiting: int,
        max_in_flight: int,
        resend: bool,
        clock: Callable[[], float],
    ) -> None:
        self.answers: deque[Answer] = deque()
        self._latest = latest
        self._max_waiting = max(1, max_waiting)
        self._max_in_flight = max_in_flight
        self._resend = resend
        self._clock = clock
        self._frames: dict[str, PendingFrame] = {}  # unanswered, by id
        self._queue: deque[PendingFrame] = deque()  # not, or not completely, written; as admitted
        self._next_sequence = self._next_id = 0

    def __len__(self) -> int:
        return len(self._frames)

    @property
    def has_waiting(self) -> bool:
        """Whether a frame is not, or not completely, written."""
        return bool(self._queue)

    @property
    def has_room(self) -> bool:
        """Whether one more may be admitted without going over the limits."""
        if self._latest:
            return True
        if self._max_in_flight and len(self._frames) >= self._max_in_flight:
            return False
        return len(self._queue) < self._max_waiting

    @property
    def next_deadline(self) -> float:
        """When the first waiting frame expires."""
        return min((f.deadline_at for f in self._queue if not f.epoch), default=math.inf)

    def admit(self, frame_id: str, deadline_at: float) -> PendingFrame:
        """Takes up a frame; "" chooses its id. Raises MessageError for one that is unanswered."""
        while not frame_id:
            candidate, self._next_id = str(self._next_id), self._next_id + 1
            frame_id = "" if candidate in self._frames else candidate
        if frame_id in self._frames:
            raise MessageError(f"frame {frame_id} of this stream is still unanswered")
        now = self._clock()
        frame = PendingFrame(frame_id, self._next_sequence, now, now, deadline_at)
        self._next_sequence += 1
        self._frames[frame_id] = frame
        self._queue.append(frame)
        return frame

    def add(self, frame: PendingFrame, message: bytes, last: bool) -> bool:
        """The next message of a frame; False when the frame wants no more."""
        if frame.stopped:
            return False
        frame.messages.append(message)
        frame.started_at = self._clock()
        if last:
            frame.complete = True
            self._supersede()
        return True

    def get(self, frame_id: str) -> PendingFrame | None:
        return self._frames.get(frame_id)

    def unanswered(self) -> list[PendingFrame]:
        return list(self._frames.values())

    def waiting(self) -> list[PendingFrame]:
        """Frames of which nothing was sent, oldest first."""
        return [frame for frame in self._queue if not frame.epoch]

    def carried_by(self, epoch: int) -> list[PendingFrame]:
        """Frames sent on this connection, at least in part."""
        return [frame for frame in self._frames.values() if frame.epoch == epoch]

    def next_message(self, epoch: int) -> bytes | None:
        """What to write next on this connection; None: nothing is ready. It counts as sent."""
        self.expire()
        if not self._queue:
            return None
        frame = self._queue[0]
        if frame.written == len(frame.messages):
            return None  # the rest of it is still being made
        if not frame.epoch:
            if self._held_back():
                return None
            frame.epoch = epoch
            frame.sends += 1
        message = frame.messages[frame.written]
        if not self._resend:
            frame.messages[frame.written] = b""
        frame.written += 1
        if frame.complete and frame.written == len(frame.messages):
            self._queue.popleft()
        return message

    def expire(self) -> None:
        """Answers the waiting frames whose deadline has come."""
        now = self._clock()
        for frame in [f for f in self._queue if not f.epoch and f.deadline_at <= now]:
            limit, passed = frame.deadline_at - frame.admitted_at, now - frame.admitted_at
            message = f"not sent within its deadline of {limit:.3g} s: it waited {passed:.3g} s"
            self.fail(frame, grpc.StatusCode.DEADLINE_EXCEEDED, message)

    def stop(self, frame: PendingFrame) -> None:
        """Sends no more of a frame, which is still to be answered."""
        frame.stopped = True
        self.take_out(frame)

    def take_out(self, frame: PendingFrame) -> None:
        """Writes no more of a frame on the connection that carries it."""
        if frame in self._queue:
            self._queue.remove(frame)

    def may_send_again(self, frame: PendingFrame) -> bool:
        return self._resend and not frame.stopped and frame.sends < _MAX_SENDS

    def send_again(self, frame: PendingFrame) -> None:
        """Puts a frame back where it was in the queue, from its first message on."""
        frame.epoch = frame.written = 0
        waiting = {f.sequence: f for f in (*self._queue, frame)}
        self._queue = deque(waiting[sequence] for sequence in sorted(waiting))
        self._supersede()

    def fail(self, frame: PendingFrame, code: grpc.StatusCode, message: str) -> None:
        """Answers a frame with an error."""
        seconds = self.remove(frame)
        self.answers.append(FrameFailure(frame.frame_id, code, message, seconds))

    def remove(self, frame: PendingFrame) -> float:
        """Takes a frame out without an answer; seconds since it was sent."""
        self.stop(frame)
        frame.messages.clear()
        del self._frames[frame.frame_id]
        return self._clock() - frame.started_at

    def _held_back(self) -> bool:
        if not (self._latest and self._max_in_flight):
            return False
        return sum(f.epoch != 0 for f in self._frames.values()) >= self._max_in_flight

    def _supersede(self) -> None:
        """LATEST: of the complete frames that wait, only the newest stays."""
        if not self._latest:
            return
        complete = [frame for frame in self.waiting() if frame.complete]
        for frame in complete[:-1]:
            message = f"superseded by {complete[-1].frame_id}"
            self.fail(frame, grpc.StatusCode.ABORTED, message)
