# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""The rules of a client's stream, on a fake clock."""

from __future__ import annotations

import math
from typing import Any

import grpc
import pytest

from voxgate_client import Backoff, FrameFailure, FrameResult, MessageError, VoxgateRpcError
from voxgate_client.stream_core import Connect, HangUp, Pull, StreamCore
from voxgate_protos import voxel_inference_pb2 as pb

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
RESULT = "result"
BACKOFF = Backoff(initial=1.0, maximum=8.0, factor=2.0, jitter=0.0)


class Rig:
    """A core, its clock, and the messages each connection wrote."""

    def __init__(self, *, opened: bool = True, **options: Any) -> None:
        self.now = 100.0
        settings: dict[str, Any] = {
            "latest": False,
            "max_waiting": 4,
            "max_in_flight": 0,
            "resend": False,
            "backoff": BACKOFF,
            "open_timeout": 30.0,
        }
        self.core = StreamCore(
            b"open", clock=lambda: self.now, random=lambda: 0.5, **settings | options
        )
        self.written: dict[int, list[bytes]] = {}
        self.epoch = 0
        if opened:
            self.connect()

    def connect(self) -> int:
        """Lets the core connect, and the server accept."""
        (action,) = self.core.poll()
        assert isinstance(action, Connect)
        self.epoch = action.epoch
        assert self.write() == [b"open"]
        self.receive(opened=pb.StreamOpened(max_queued_frames=4, max_frame_bytes=1000))
        return self.epoch

    def send(self, frame_id: str, deadline: float = math.inf) -> None:
        frame = self.core.admit(frame_id, deadline)
        self.core.add(frame, frame_id.encode())

    def write(self, epoch: int | None = None) -> list[bytes]:
        """Everything the connection has to write now."""
        messages: list[bytes] = []
        while isinstance(message := self.core.next_message(epoch or self.epoch), bytes):
            messages.append(message)
        return messages

    def receive(self, epoch: int | None = None, **member: Any) -> None:
        self.core.receive(epoch or self.epoch, pb.StreamResponse(**member))

    def answer(self, frame_id: str, code: int | str = RESULT, epoch: int | None = None) -> None:
        if isinstance(code, int):
            self.receive(epoch, error=pb.FrameError(frame_id=frame_id, code=code, message="no"))
        else:
            self.receive(epoch, result=pb.InferResponse(frame_id=frame_id))

    def drain(self) -> None:
        self.receive(notice=pb.ServerNotice(kind=pb.ServerNotice.DRAINING, message="stopping"))

    def answers(self) -> list[tuple[str, str]]:
        """What was answered since the last call: ids and codes."""
        told = [
            (a.frame_id, "OK" if isinstance(a, FrameResult) else a.code.name)
            for a in self.core.answers
        ]
        self.core.answers.clear()
        return told

    def notices(self) -> list[str]:
        kinds = [notice.kind for notice in self.core.notices]
        self.core.notices.clear()
        return kinds


def cancel_request(frame_id: str) -> bytes:
    return pb.StreamRequest(cancel_frame_id=frame_id).SerializeToString()


# ---- frames ------------------------------------------------------------------------------------


def test_ids_are_chosen_around_those_in_use() -> None:
    core = Rig().core
    assert [core.admit(i).frame_id for i in ("1", "", "", "0x")] == ["1", "0", "2", "0x"]
    with pytest.raises(MessageError, match="frame 1 of this stream is still unanswered"):
        core.admit("1")


def test_an_answered_id_is_free_again() -> None:
    rig = Rig()
    rig.send("a")
    rig.write()
    rig.answer("a")
    rig.send("a")
    assert rig.answers() == [("a", "OK")] and rig.core.num_unanswered == 1


def test_client_seconds_count_from_the_last_part() -> None:
    rig = Rig()
    frame = rig.core.admit("a")
    rig.core.add(frame, b"1", last=False)
    rig.now += 7
    rig.core.add(frame, b"2")
    rig.write()
    rig.now += 0.5
    rig.answer("a")
    (answer,) = rig.core.answers
    assert isinstance(answer, FrameResult) and answer.client_seconds == 0.5


def test_frames_are_written_as_admitted_each_once() -> None:
    rig = Rig()
    rig.send("a")
    turning = rig.core.admit("b")
    rig.core.add(turning, b"b0", last=False)
    rig.send("c")
    assert rig.write() == [b"a", b"b0"]  # what follows waits until b is complete
    rig.core.add(turning, b"b1")
    assert rig.write() == [b"b1", b"c"]
    assert rig.write() == []


def test_fifo_has_no_room_when_the_queue_is_full() -> None:
    rig = Rig(max_waiting=2)
    rig.send("a")
    assert rig.core.has_room()
    rig.send("b")
    assert not rig.core.has_room()
    rig.write()
    assert rig.core.has_room()


def test_fifo_has_no_room_at_max_in_flight() -> None:
    rig = Rig(max_in_flight=2)
    for frame_id in "ab":
        rig.send(frame_id)
        rig.write()
    assert not rig.core.has_room()
    rig.answer("a")
    assert rig.core.has_room()


def test_latest_replaces_the_frame_that_waits() -> None:
    rig = Rig(latest=True, max_in_flight=1)
    rig.send("a")
    assert rig.write() == [b"a"]
    for frame_id in "bcd":
        assert rig.core.has_room()
        rig.send(frame_id)
    assert rig.write() == []  # a is unanswered
    assert [(a.frame_id, a.message) for a in rig.core.answers] == [  # type: ignore[union-attr]
        ("b", "superseded by c"),
        ("c", "superseded by d"),
    ]
    assert rig.answers() == [("b", "ABORTED"), ("c", "ABORTED")]
    rig.answer("a")
    assert rig.write() == [b"d"]


def test_latest_frame_that_is_not_complete_replaces_nothing() -> None:
    rig = Rig(latest=True, max_in_flight=1)
    rig.send("a")
    rig.write()
    rig.send("b")
    turning = rig.core.admit("c")
    rig.core.add(turning, b"c0", last=False)
    assert rig.answers() == []
    rig.core.add(turning, b"c1")
    assert rig.answers() == [("b", "ABORTED")]


def test_latest_frame_partly_sent_is_not_replaced() -> None:
    rig = Rig(latest=True)
    turning = rig.core.admit("a")
    rig.core.add(turning, b"a0", last=False)
    assert rig.write() == [b"a0"]
    rig.send("b")
    rig.core.add(turning, b"a1")
    assert rig.answers() == [] and rig.write() == [b"a1", b"b"]


def test_deadline_of_a_frame_that_waits() -> None:
    rig = Rig(max_in_flight=0, opened=False)
    rig.send("a", deadline=rig.now + 2)
    rig.send("b", deadline=rig.now + 5)
    rig.send("c")
    rig.connect()
    assert rig.core.wake_at() == 102
    rig.now += 2
    assert rig.core.poll() == []
    assert rig.answers() == [("a", "DEADLINE_EXCEEDED")]
    rig.now += 4
    assert rig.write() == [b"c"]  # found late by the writer: not sent either
    (answer,) = rig.core.answers
    assert isinstance(answer, FrameFailure)
    assert answer.message == "not sent within its deadline of 5 s: it waited 6 s"


def test_a_frame_that_was_sent_is_the_servers_to_expire() -> None:
    rig = Rig()
    rig.send("a", deadline=rig.now + 2)
    rig.write()
    rig.now += 10
    assert rig.core.poll() == [] and rig.answers() == [] and rig.core.wake_at() == math.inf


def test_cancel_of_a_frame_that_waits_is_answered_here() -> None:
    rig = Rig(opened=False)
    rig.send("a")
    rig.core.cancel("a")
    rig.core.cancel("unknown")
    assert rig.answers() == [("a", "CANCELLED")]
    rig.connect()
    assert rig.write() == []


def test_cancel_of_a_frame_under_way_asks_the_server_once() -> None:
    rig = Rig()
    turning = rig.core.admit("a")
    rig.core.add(turning, b"a0", last=False)
    rig.write()
    rig.core.cancel("a")
    rig.core.cancel("a")
    assert not rig.core.add(turning, b"a1")
    assert rig.write() == [cancel_request("a")] and rig.answers() == []
    rig.answer("a", 1)
    assert rig.answers() == [("a", "CANCELLED")]


def test_frame_that_could_not_be_made_is_forgotten() -> None:
    rig = Rig()
    rig.core.forget(rig.core.admit("a"))
    assert rig.core.num_unanswered == 0 and rig.answers() == [] and rig.write() == []
    half = rig.core.admit("b")
    rig.core.add(half, b"b0", last=False)
    rig.core.forget(half)
    assert rig.answers() == [("b", "CANCELLED")]


def test_half_close_follows_the_last_frame() -> None:
    rig = Rig()
    rig.send("a")
    rig.core.close_sending()
    with pytest.raises(VoxgateRpcError, match="sending was closed"):
        rig.core.admit("b")
    assert rig.write() == [b"a"] and rig.core.next_message(1) is Pull.DONE
    rig.answer("a")
    assert not rig.core.over
    rig.core.ended(1, grpc.StatusCode.OK, "")
    assert rig.core.over and rig.core.poll() == [] and rig.notices() == []


def test_close_answers_everything() -> None:
    rig = Rig()
    rig.send("a")
    rig.write()
    rig.send("b")
    rig.core.close()
    assert rig.answers() == [("a", "CANCELLED"), ("b", "CANCELLED")]
    assert rig.core.over and rig.core.poll() == [HangUp(1)]
    rig.answer("a")
    rig.core.ended(1, grpc.StatusCode.CANCELLED, "by us")
    assert rig.answers() == []


# ---- broken connections ------------------------------------------------------------------------


def test_broken_connection_is_opened_again_with_growing_waits() -> None:
    rig = Rig()
    rig.core.ended(1, UNAVAILABLE, "gone")
    waits = []
    for _ in range(6):
        waits.append(rig.core.wake_at() - rig.now)
        assert rig.core.poll() == []
        rig.now = rig.core.wake_at()
        (action,) = rig.core.poll()
        assert isinstance(action, Connect)
        rig.core.ended(action.epoch, UNAVAILABLE, "refused")
    assert waits == [1, 2, 4, 8, 8, 8]
    assert set(rig.notices()) == {"RECONNECTING"}


def test_waits_are_jittered() -> None:
    backoff = Backoff(initial=1, maximum=10, factor=3, jitter=0.5)
    assert [backoff.delay(n, lambda: 1.0) for n in range(4)] == [0.5, 1.5, 4.5, 5.0]
    assert backoff.delay(10_000, lambda: 0.0) == 10
    for bad in ({"initial": 0}, {"maximum": 0.01}, {"factor": 0.5}, {"jitter": 2}):
        with pytest.raises(ValueError, match=f"{next(iter(bad))[:4]}|initial"):
            Backoff(**bad)


@pytest.mark.parametrize("progress", ["answer", "lasting"])
def test_connection_that_got_something_done_starts_the_waits_over(progress: str) -> None:
    rig = Rig()
    for _ in range(3):
        rig.core.ended(rig.epoch, UNAVAILABLE, "gone")
        rig.now = rig.core.wake_at()
        rig.connect()
    if progress == "answer":
        rig.send("a")
        rig.write()
        rig.answer("a")
    else:
        rig.now += 9
    rig.core.ended(rig.epoch, UNAVAILABLE, "gone")
    assert rig.core.wake_at() - rig.now == 1


def test_what_was_sent_is_unavailable_and_what_waits_goes_to_the_next() -> None:
    rig = Rig()
    rig.send("a")
    rig.send("b")
    rig.write()
    rig.answer("a")
    rig.send("c")
    rig.core.ended(1, grpc.StatusCode.INTERNAL, "engine on fire")
    failure = rig.core.answers[-1]
    assert isinstance(failure, FrameFailure)
    assert failure.message == "stream ended before the answer (INTERNAL: engine on fire)"
    assert rig.answers() == [("a", "OK"), ("b", "UNAVAILABLE")]
    rig.now += 1
    rig.connect()
    assert rig.write() == [b"c"]
    rig.answer("c")
    assert rig.answers() == [("c", "OK")]
    assert rig.notices() == ["RECONNECTING", "RECONNECTED"]


def test_frames_wait_until_the_server_accepts_the_stream() -> None:
    rig = Rig()
    rig.core.ended(1, UNAVAILABLE, "gone")
    rig.now += 1
    rig.send("a")
    rig.core.poll()
    assert rig.write(2) == [b"open"] and rig.write(2) == []
    rig.core.ended(2, UNAVAILABLE, "refused")
    assert rig.answers() == []


def test_connection_that_is_not_accepted_in_time_is_hung_up() -> None:
    rig = Rig()
    rig.core.ended(1, UNAVAILABLE, "gone")
    rig.now += 1
    rig.core.poll()
    assert rig.core.wake_at() == rig.now + 30
    rig.now += 30
    assert rig.core.poll() == [HangUp(2)]
    assert rig.core.wake_at() == rig.now + 2


def test_rest_of_a_frame_whose_connection_broke_is_dropped() -> None:
    rig = Rig()
    turning = rig.core.admit("a")
    rig.core.add(turning, b"a0", last=False)
    rig.write()
    rig.core.ended(1, UNAVAILABLE, "gone")
    assert rig.answers() == [("a", "UNAVAILABLE")]
    assert not rig.core.add(turning, b"a1")
    rig.now += 1
    rig.connect()
    assert rig.write() == []


def test_resend_sends_what_was_unanswered_in_its_order() -> None:
    rig = Rig(resend=True)
    rig.send("a")
    rig.send("b")
    turning = rig.core.admit("c")
    rig.core.add(turning, b"c0", last=False)
    rig.write()
    rig.answer("a")
    rig.core.ended(1, UNAVAILABLE, "gone")
    rig.core.add(turning, b"c1")
    rig.send("d")
    assert rig.answers() == [("a", "OK")]
    rig.now += 1
    rig.connect()
    assert rig.write() == [b"b", b"c0", b"c1", b"d"]
    for frame_id in "bcd":
        rig.answer(frame_id, epoch=1)  # the dead connection has nothing to say
        rig.answer(frame_id)
    assert rig.answers() == [("b", "OK"), ("c", "OK"), ("d", "OK")]


def test_frame_that_breaks_every_stream_is_not_sent_for_ever() -> None:
    rig = Rig(resend=True)
    rig.send("poison")
    sent = 0
    while not (answers := rig.answers()):
        sent += len(rig.write())
        rig.core.ended(rig.epoch, grpc.StatusCode.RESOURCE_EXHAUSTED, "too large")
        rig.now = rig.core.wake_at()
        rig.connect()
    assert sent == 3 and answers == [("poison", "UNAVAILABLE")]


def test_resend_under_latest_sends_only_the_newest() -> None:
    rig = Rig(resend=True, latest=True)
    rig.send("a")
    rig.write()
    rig.send("b")
    rig.write()
    rig.core.ended(1, UNAVAILABLE, "gone")
    assert rig.answers() == [("a", "ABORTED")]
    rig.now += 1
    rig.connect()
    assert rig.write() == [b"b"]


def test_cancelled_frame_is_not_sent_again() -> None:
    rig = Rig(resend=True)
    rig.send("a")
    rig.write()
    rig.core.cancel("a")
    rig.core.ended(1, UNAVAILABLE, "gone")
    assert rig.answers() == [("a", "UNAVAILABLE")]


def test_stale_frame_is_not_sent_again() -> None:
    rig = Rig(resend=True)
    rig.send("a", deadline=rig.now + 0.5)
    rig.write()
    rig.core.ended(1, UNAVAILABLE, "gone")
    rig.now += 1
    rig.core.poll()
    assert rig.answers() == [("a", "DEADLINE_EXCEEDED")]


@pytest.mark.parametrize("code", ["NOT_FOUND", "UNAUTHENTICATED", "INVALID_ARGUMENT"])
def test_end_that_the_server_meant_answers_everything_with_its_status(code: str) -> None:
    rig = Rig(resend=True)
    rig.send("a")
    rig.write()
    rig.send("b")
    rig.core.ended(1, grpc.StatusCode[code], "no such model")
    assert rig.answers() == [("a", code), ("b", code)]
    assert rig.core.over and rig.core.poll() == []
    with pytest.raises(VoxgateRpcError, match=f"stream is over: {code}: no such model"):
        rig.core.admit("c")


@pytest.mark.parametrize("code", list(grpc.StatusCode)[:3] + [UNAVAILABLE])
def test_without_reconnecting_the_stream_ends_with_its_connection(code: grpc.StatusCode) -> None:
    rig = Rig(backoff=None, resend=True)
    rig.send("a")
    rig.write()
    rig.send("b")
    rig.core.ended(1, code, "why")
    assert rig.answers() == [("a", "UNAVAILABLE"), ("b", "UNAVAILABLE")]
    assert rig.core.over and rig.core.end_error is not None and rig.notices() == []


def test_first_connection_that_fails_ends_the_stream() -> None:
    rig = Rig(opened=False)
    rig.core.poll()
    rig.core.ended(1, UNAVAILABLE, "no route")
    assert rig.core.over and str(rig.core.end_error) == "UNAVAILABLE: no route"


def test_giving_up() -> None:
    rig = Rig(backoff=Backoff(initial=1, maximum=8, jitter=0, give_up_after=10))
    rig.send("a")
    rig.core.ended(1, UNAVAILABLE, "gone")
    start = rig.now
    while not rig.core.over:
        rig.now = rig.core.wake_at()
        (action,) = rig.core.poll()
        rig.core.ended(action.epoch, UNAVAILABLE, "refused")
    assert rig.now - start == 1 + 2 + 4 + 8 and rig.answers() == [("a", "UNAVAILABLE")]


def test_break_after_close_sending_connects_only_for_what_waits() -> None:
    rig = Rig()
    rig.send("a")
    rig.write()
    rig.core.close_sending()
    rig.core.ended(1, UNAVAILABLE, "gone")
    assert rig.core.over and rig.answers() == [("a", "UNAVAILABLE")]
    rig = Rig()
    rig.send("a")
    rig.core.close_sending()
    rig.core.ended(1, UNAVAILABLE, "gone")
    rig.now += 1
    rig.connect()
    assert rig.write() == [b"a"] and rig.core.next_message(2) is Pull.DONE


def test_connecting_is_given_up_when_the_last_frame_that_waits_is_taken_back() -> None:
    rig = Rig()
    rig.send("a")
    rig.core.close_sending()
    rig.core.ended(1, UNAVAILABLE, "gone")
    rig.now += 1
    rig.core.poll()
    rig.core.cancel("a")
    assert rig.core.poll() == [HangUp(2)] and rig.core.over


# ---- draining ----------------------------------------------------------------------------------


def test_draining_opens_a_new_stream_at_once_and_reads_the_old_one_out() -> None:
    rig = Rig()
    rig.send("a")
    rig.send("b")
    rig.write()
    rig.drain()
    rig.send("c")
    assert rig.write(1) == [] and rig.core.next_message(1) is Pull.WAIT
    assert rig.core.wake_at() == rig.now
    assert rig.connect() == 2
    assert rig.write(2) == [b"c"]
    rig.answer("a", epoch=2)  # not its own
    rig.answer("a", epoch=1)
    rig.answer("c", epoch=2)
    assert rig.answers() == [("a", "OK"), ("c", "OK")]
    rig.answer("b", 14, epoch=1)
    assert rig.core.next_message(1) is Pull.DONE
    rig.core.ended(1, grpc.StatusCode.OK, "")
    assert rig.answers() == [("b", "UNAVAILABLE")] and rig.core.poll() == []
    assert rig.notices() == ["DRAINING", "RECONNECTING", "RECONNECTED"]


def test_cancel_goes_to_the_stream_that_has_the_frame() -> None:
    rig = Rig()
    rig.send("a")
    rig.write()
    rig.drain()
    rig.connect()
    rig.core.cancel("a")
    assert rig.write(2) == [] and rig.write(1) == [cancel_request("a")]


def test_id_freed_by_the_old_stream_is_answered_only_by_the_new_one() -> None:
    rig = Rig()
    rig.send("a")
    rig.write()
    rig.drain()
    rig.answer("a", 14)
    rig.connect()
    rig.send("a")
    rig.write()
    rig.answer("a", epoch=1)
    assert rig.answers() == [("a", "UNAVAILABLE")]
    rig.answer("a", epoch=2)
    assert rig.answers() == [("a", "OK")]


def test_draining_server_with_nothing_behind_it_is_not_asked_in_a_loop() -> None:
    rig = Rig()
    rig.drain()
    waits = []
    for _ in range(4):
        waits.append(rig.core.wake_at() - rig.now)
        rig.now = rig.core.wake_at()
        rig.connect()
        rig.drain()
    assert waits == [0, 1, 2, 4]


def test_answers_of_the_old_stream_do_not_shorten_the_waits_for_a_new_one() -> None:
    rig = Rig()
    rig.send("a")
    rig.send("b")
    rig.write()
    rig.drain()
    waits = []
    for frame_id in ("a", "b", ""):
        rig.now = rig.core.wake_at()
        (action,) = rig.core.poll()
        if frame_id:
            rig.answer(frame_id, epoch=1)
        rig.core.ended(action.epoch, UNAVAILABLE, "refused")
        waits.append(rig.core.wake_at() - rig.now)
    assert waits == [2, 4, 8]


def test_new_stream_that_is_drained_before_it_opened_waits() -> None:
    rig = Rig()
    rig.drain()
    rig.core.poll()
    rig.notices()
    rig.epoch = 2
    rig.drain()
    assert rig.notices() == [] and rig.core.poll() == []
    rig.core.ended(2, UNAVAILABLE, "the server is stopping")
    assert rig.core.wake_at() == rig.now + 2


def test_resend_takes_what_the_draining_server_refused_along() -> None:
    rig = Rig(resend=True)
    rig.send("a")
    rig.send("b")
    turning = rig.core.admit("c")
    rig.core.add(turning, b"c0", last=False)
    rig.write()
    rig.drain()
    rig.answer("b", 14)
    rig.answer("c", 14)
    rig.core.add(turning, b"c1")
    rig.connect()
    assert rig.write() == [b"b", b"c0", b"c1"]
    rig.answer("a", epoch=1)
    rig.answer("b", 14)  # a refusal that is no drain's counts
    rig.answer("c")
    assert rig.answers() == [("a", "OK"), ("b", "UNAVAILABLE"), ("c", "OK")]


def test_frame_that_comes_back_after_half_close_gets_a_connection() -> None:
    rig = Rig(resend=True)
    rig.send("a")
    rig.write()
    rig.drain()
    rig.connect()
    rig.core.close_sending()
    assert rig.core.next_message(2) is Pull.DONE
    rig.answer("a", 14, epoch=1)
    rig.now = rig.core.wake_at()
    rig.connect()
    assert rig.write(3) == [b"a"] and rig.core.next_message(3) is Pull.DONE


def test_half_sent_frame_stops_on_a_draining_stream() -> None:
    rig = Rig()
    turning = rig.core.admit("a")
    rig.core.add(turning, b"a0", last=False)
    rig.write()
    rig.drain()
    assert not rig.core.add(turning, b"a1")
    rig.send("b")
    rig.connect()
    assert rig.write() == [b"b"] and rig.write(1) == []
    rig.answer("a", 14, epoch=1)
    assert rig.answers() == [("a", "UNAVAILABLE")]


def test_draining_without_reconnecting_stays() -> None:
    rig = Rig(backoff=None)
    rig.drain()
    rig.send("a")
    assert rig.write() == [b"a"] and rig.core.poll() == []
    rig.answer("a", 14)
    assert rig.answers() == [("a", "UNAVAILABLE")] and rig.notices() == ["DRAINING"]


def test_draining_after_close_sending_opens_nothing() -> None:
    rig = Rig()
    rig.send("a")
    rig.write()
    rig.core.close_sending()
    rig.drain()
    assert rig.core.poll() == []
    rig.answer("a")
    rig.core.ended(1, grpc.StatusCode.OK, "")
    assert rig.core.over and rig.answers() == [("a", "OK")]


# ---- notices -----------------------------------------------------------------------------------


def test_reload_changes_the_model() -> None:
    rig = Rig()
    model = pb.ModelInfo(name="m", version="9")
    rig.receive(
        notice=pb.ServerNotice(kind=pb.ServerNotice.MODEL_RELOADED, message="new", model=model)
    )
    assert rig.notices() == ["MODEL_RELOADED"]
    assert rig.core.model is not None and rig.core.model.version == "9"


def test_errors_that_fit_no_frame_are_told() -> None:
    rig = Rig()
    rig.answer("", 3)
    rig.answer("never sent", 3)
    rig.answer("never sent")
    rig.receive()  # a member newer than this client
    assert rig.notices() == ["UNMATCHED"] * 2 and rig.answers() == []
