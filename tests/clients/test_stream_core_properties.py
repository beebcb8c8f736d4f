# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Any interleaving of sends, answers, breaks, drains, reconnects and cancels: one answer an id."""

from __future__ import annotations

import math
from collections import Counter

import grpc
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from voxgate_client import Backoff, MessageError, VoxgateRpcError
from voxgate_client.frame_book import PendingFrame
from voxgate_client.stream_core import Connect, HangUp, Pull, StreamCore
from voxgate_protos import voxel_inference_pb2 as pb

MAX_WAITING = 3
IDS = st.integers(0, 3).map(str)
CODES = st.sampled_from(["UNAVAILABLE", "INTERNAL", "OK", "CANCELLED", "NOT_FOUND"])


class Call:
    """What the test knows of one connection."""

    def __init__(self) -> None:
        self.opened = False
        self.draining = False
        self.done = False
        self.sent: list[bytes] = []


class Streams(RuleBasedStateMachine):
    """Drives a core as a face and a misbehaving server would."""

    @initialize(
        latest=st.booleans(),
        resend=st.booleans(),
        reconnect=st.booleans(),
        max_in_flight=st.integers(0, 3),
    )
    def start(self, latest: bool, resend: bool, reconnect: bool, max_in_flight: int) -> None:
        self.now = 0.0
        self.latest, self.resend, self.reconnect = latest, resend, reconnect
        self.max_in_flight = max_in_flight
        self.core = StreamCore(
            b"open",
            latest=latest,
            max_waiting=MAX_WAITING,
            max_in_flight=max_in_flight,
            resend=resend,
            backoff=Backoff(initial=1, maximum=8) if reconnect else None,
            open_timeout=5,
            clock=lambda: self.now,
            random=lambda: 0.5,
        )
        self.calls: dict[int, Call] = {}
        self.admitted: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self.writes: Counter[bytes] = Counter()
        self.half: PendingFrame | None = None
        self.serial = 0
        self.closed = False

    # The caller ---------------------------------------------------------------------------------

    @rule(frame_id=IDS, deadline=st.sampled_from([math.inf, 0, 1, 4]), parts=st.booleans())
    def send(self, frame_id: str, deadline: float, parts: bool) -> None:
        if self.half is not None or not self.core.has_room():
            return
        try:
            frame = self.core.admit(frame_id, self.now + deadline)
        except MessageError:
            assert self.admitted[frame_id] == self.answered[frame_id] + 1
            return
        except VoxgateRpcError:
            assert self.closed or self.core.end_error is not None
            return
        self.admitted[frame_id] += 1
        if parts:
            self.half = frame
        self.add(frame, last=not parts)

    @precondition(lambda self: self.half is not None)
    @rule(last=st.booleans())
    def part(self, last: bool) -> None:
        assert self.half is not None
        wanted = self.add(self.half, last=last)
        if last or not wanted:
            self.half = None

    @precondition(lambda self: self.half is not None)
    @rule()
    def part_fails(self) -> None:
        assert self.half is not None
        self.core.forget(self.half)
        self.half = None

    def add(self, frame: PendingFrame, *, last: bool) -> bool:
        self.serial += 1
        message = f"{frame.frame_id}:{self.serial}".encode()
        return self.core.add(frame, message, last=last)

    @rule(frame_id=IDS)
    def cancel(self, frame_id: str) -> None:
        self.core.cancel(frame_id)

    @precondition(lambda self: self.half is None)
    @rule()
    def close_sending(self) -> None:
        self.core.close_sending()
        self.closed = True

    @rule(seconds=st.sampled_from([0.5, 1.0, 10.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    # The face -----------------------------------------------------------------------------------

    @rule()
    def poll(self) -> None:
        for action in self.core.poll():
            if isinstance(action, HangUp):
                self.calls.pop(action.epoch, None)  # it may have ended by itself meanwhile
            else:
                assert isinstance(action, Connect) and action.epoch not in self.calls
                assert self.reconnect or action.epoch == 1
                self.calls[action.epoch] = Call()
                assert sum(not c.draining and not c.done for c in self.calls.values()) == 1
        assert self.core.wake_at() > self.now

    @precondition(lambda self: self.calls)
    @rule(data=st.data(), count=st.integers(1, 4))
    def write(self, data: st.DataObject, count: int) -> None:
        epoch = data.draw(st.sampled_from(sorted(self.calls)))
        call = self.calls[epoch]
        for _ in range(count):
            message = self.core.next_message(epoch)
            if isinstance(message, Pull):
                call.done = call.done or message is Pull.DONE
                return
            assert not call.done
            assert bool(call.sent) == (message != b"open")
            if b":" in message:
                assert call.opened and not (call.draining and self.reconnect)
                self.writes[message] += 1
                assert self.writes[message] <= (3 if self.resend and self.reconnect else 1)
                assert message not in call.sent
            call.sent.append(message)

    # The server ---------------------------------------------------------------------------------

    @precondition(lambda self: self.calls)
    @rule(data=st.data())
    def open(self, data: st.DataObject) -> None:
        epoch = data.draw(st.sampled_from(sorted(self.calls)))
        call = self.calls[epoch]
        if call.sent and not call.opened:
            call.opened = True
            self.core.receive(epoch, pb.StreamResponse(opened=pb.StreamOpened()))

    @precondition(lambda self: self.calls)
    @rule(data=st.data(), frame_id=IDS, code=st.sampled_from([0, 1, 3, 14]))
    def answer(self, data: st.DataObject, frame_id: str, code: int) -> None:
        """Also to frames that are not this connection's, or are no frames at all."""
        epoch = data.draw(st.sampled_from([*sorted(self.calls), 999]))
        if code:
            response = pb.StreamResponse(error=pb.FrameError(frame_id=frame_id, code=code))
        else:
            response = pb.StreamResponse(result=pb.InferResponse(frame_id=frame_id))
        before = len(self.core.answers)
        self.core.receive(epoch, response)
        if epoch == 999 or not any(
            m.startswith(frame_id.encode() + b":") for m in self.calls[epoch].sent
        ):
            assert len(self.core.answers) == before

    @precondition(lambda self: self.calls)
    @rule(data=st.data())
    def drain(self, data: st.DataObject) -> None:
        epoch = data.draw(st.sampled_from(sorted(self.calls)))
        call = self.calls[epoch]
        notice = pb.ServerNotice(kind=pb.ServerNotice.DRAINING)
        self.core.receive(epoch, pb.StreamResponse(notice=notice))
        call.draining = call.draining or call.opened

    @precondition(lambda self: self.calls)
    @rule(data=st.data(), code=CODES)
    def breaks(self, data: st.DataObject, code: str) -> None:
        epoch = data.draw(st.sampled_from(sorted(self.calls)))
        del self.calls[epoch]
        self.core.ended(epoch, grpc.StatusCode[code], "why")
        if not self.resend:
            assert not any(f.epoch == epoch for f in self.core._book.unanswered())

    # What must hold -----------------------------------------------------------------------------

    @invariant()
    def each_id_has_at_most_one_answer(self) -> None:
        while self.core.answers:
            self.answered[self.core.answers.popleft().frame_id] += 1
        for frame_id, count in self.admitted.items():
            assert self.answered[frame_id] in (count, count - 1)
        unanswered = self.admitted.total() - self.answered.total()
        assert self.answered.keys() <= self.admitted.keys()
        # A frame that was forgotten is never among them: `send` adds something at once.
        assert unanswered == self.core.num_unanswered

    @invariant()
    def queues_are_bounded(self) -> None:
        waiting = self.core._book.waiting()
        if self.latest:
            assert sum(frame.complete for frame in waiting) <= 1
        elif not self.resend:
            assert len(waiting) <= MAX_WAITING
        under_way = [frame for frame in self.core._book.unanswered() if frame.epoch]
        if self.max_in_flight:
            assert len(under_way) <= self.max_in_flight

    @invariant()
    def over_means_nothing_is_left(self) -> None:
        if self.core.over:
            assert self.core.num_unanswered == 0

    def teardown(self) -> None:
        """However it went: the stream can be brought to its end, and every id is answered."""
        if not hasattr(self, "core"):
            return
        if self.half is not None:
            self.core.forget(self.half)
        if self.closed:  # without `close`: a good server appears and answers what is left
            for _ in range(50):
                self.now += 10
                self.poll()
                for epoch, call in list(self.calls.items()):
                    self._serve(epoch, call)
                if self.core.over:
                    break
            assert self.core.over
        else:
            self.core.close()
        self.each_id_has_at_most_one_answer()
        assert self.admitted == self.answered and self.core.over

    def _serve(self, epoch: int, call: Call) -> None:
        while isinstance(self.core.next_message(epoch), bytes):
            pass
        if not call.opened:
            call.opened = True
            self.core.receive(epoch, pb.StreamResponse(opened=pb.StreamOpened()))
            while isinstance(self.core.next_message(epoch), bytes):
                pass
        for frame in self.core._book.carried_by(epoch):
            result = pb.InferResponse(frame_id=frame.frame_id)
            self.core.receive(epoch, pb.StreamResponse(result=result))
        if self.core.next_message(epoch) is Pull.DONE:
            del self.calls[epoch]
            self.core.ended(epoch, grpc.StatusCode.OK, "")


TestStreams = Streams.TestCase
TestStreams.settings = settings(max_examples=300, stateful_step_count=40)
