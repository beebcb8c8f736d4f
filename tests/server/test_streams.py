# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""The rules of a stream on a made-up clock: no sockets, no sleeping."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.server.driver import chunks, frame
from tests.server.models import GRID

from voxgate_protos import voxel_inference_pb2 as pb
from voxgate_server.codec import FrameSpec
from voxgate_server.errors import DuplicateFrame, FrameCancelled, InvalidFrame
from voxgate_server.streams import Arrival, Broken, Event, StreamState

SPEC = FrameSpec("voxels", GRID, 2, np.dtype(np.float32), False, 1000, 40_000)


def new_state(**fields: bool) -> StreamState[str]:
    return StreamState(SPEC, chunk_timeout=2.0, **fields)


def summary(events: list[Event]) -> list[tuple[str, type]]:
    return [(e.frame_id, type(e.error) if isinstance(e, Broken) else Arrival) for e in events]


def test_a_whole_frame_arrives_at_once() -> None:
    (arrival,) = new_state().frame(frame("a"), 7.0)
    assert isinstance(arrival, Arrival)
    assert (arrival.first_at, arrival.last_at, len(arrival.parts)) == (7.0, 7.0, 1)


def test_chunks_carry_the_times_of_the_first_and_the_last() -> None:
    state = new_state()
    parts = chunks(frame("a", 6), [1, 2, 3])
    parts[0].part.captured_at.FromSeconds(1_700_000_000)
    parts[1].part.captured_at.FromSeconds(1)
    assert state.chunk(parts[0], 1.0) == []
    assert state.arriving is not None and state.arriving.frame_id == "a"
    assert state.chunk_deadline == 3.0
    assert state.chunk(parts[1], 2.0) == []
    assert state.chunk_deadline == 4.0
    (arrival,) = state.chunk(parts[2], 2.5)
    assert isinstance(arrival, Arrival)
    assert (arrival.first_at, arrival.last_at, len(arrival.parts)) == (1.0, 2.5, 3)
    assert arrival.captured_at == 1_700_000_000
    assert not state.arriving


def test_a_nonsense_clock_costs_nothing() -> None:
    sent = frame("a")
    sent.captured_at.seconds = 2**62
    (arrival,) = new_state().frame(sent, 0.0)
    assert isinstance(arrival, Arrival) and arrival.captured_at == 2**62


def test_overdue_chunks() -> None:
    state = new_state()
    state.chunk(chunks(frame("a", 6), [3, 3])[0], 1.0)
    assert state.tick(2.9) == []
    (broken,) = state.tick(3.0)
    assert isinstance(broken, Broken) and "2 s" in str(broken.error)
    assert state.tick(9.0) == [] and state.idle


def test_a_whole_frame_interrupts_and_a_repeat_does_not() -> None:
    state = new_state()
    parts = chunks(frame("a", 6), [3, 3])
    state.chunk(parts[0], 0.0)
    assert summary(state.frame(frame("a"), 0.0)) == [("a", DuplicateFrame)]
    assert state.arriving
    assert summary(state.frame(frame("b"), 0.0)) == [("a", InvalidFrame), ("b", Arrival)]
    assert state.chunk(parts[1], 0.0) == []


def test_the_chunks_of_a_refused_repeat_are_dropped() -> None:
    state = new_state()
    state.frame(frame("a"), 0.0)
    first, second, third = chunks(frame("a", 6), [2, 2, 2])
    assert summary(state.chunk(first, 0.0)) == [("a", DuplicateFrame)]
    assert state.chunk(second, 0.0) == state.chunk(third, 0.0) == []


def test_cancel_while_arriving() -> None:
    state = new_state()
    first, second = chunks(frame("a", 6), [3, 3])
    state.chunk(first, 0.0)
    assert state.cancel("b") == []
    assert summary(state.cancel("a")) == [("a", FrameCancelled)]
    assert state.chunk(second, 0.0) == []
    assert state.idle


def test_many_broken_ids_are_not_all_remembered() -> None:
    state = new_state()
    for index in range(1000):
        late = pb.FrameChunk(part=frame(f"{index}" * 200), index=5)
        assert len(state.chunk(late, 0.0)) == 1
    assert len(state._broken) <= 16
    assert all(len(str(key)) <= 128 for key in state._broken)


def test_results_keep_the_order_sent() -> None:
    state = new_state()
    for name in "abcd":
        state.frame(frame(name), 0.0)
    assert state.succeed("b", "B") == []
    assert state.succeed("d", "D") == []
    assert state.held() == ["B", "D"]
    assert state.succeed("a", "A") == ["A", "B"]
    assert state.fail("c") == ["D"]
    assert state.idle


def test_an_unordered_stream_does_not_hold_results() -> None:
    state = new_state(unordered=True)
    for name in "ab":
        state.frame(frame(name), 0.0)
    assert state.succeed("b", "B") == ["B"]
    assert state.succeed("a", "A") == ["A"]


IDS = ["a", "b", "c", ""]
STEP = st.one_of(
    st.tuples(st.just("frame"), st.sampled_from(IDS)),
    st.tuples(
        st.just("chunk"), st.sampled_from(IDS), st.integers(0, 3), st.booleans(), st.booleans()
    ),
    st.tuples(st.just("cancel"), st.sampled_from(IDS)),
    st.tuples(st.just("wait"), st.floats(0, 3)),
    st.tuples(st.just("answer"), st.integers(0, 5), st.booleans()),
)


class Model:
    """Runs steps through a `StreamState` and checks what must hold after each."""

    def __init__(self, unordered: bool) -> None:
        self.state: StreamState[str] = new_state(unordered=unordered)
        self.unordered = unordered
        self.now = 0.0
        self.arrivals = 0
        self.waiting: list[tuple[str, str]] = []  # (id, unique token), not yet answered by us
        self.sent_order: list[str] = []
        self.released: list[str] = []

    def take(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, Arrival):
                assert event.frame_id not in dict(self.waiting)
                assert 1 <= len(event.parts) <= 4
                self.arrivals += 1
                token = f"{event.frame_id} {self.arrivals}"
                self.waiting.append((event.frame_id, token))
                self.sent_order.append(token)

    def step(self, step: tuple) -> None:
        kind, *rest = step
        if kind == "frame":
            self.take(self.state.frame(frame(rest[0]), self.now))
        elif kind == "chunk":
            name, index, last, good = rest
            part = frame(name) if good else frame(name, 5, 0, num_features=7)
            events = self.state.chunk(pb.FrameChunk(part=part, index=index, last=last), self.now)
            assert len(events) <= 2  # the frame it interrupts, and its own
            self.take(events)
        elif kind == "cancel":
            self.take(self.state.cancel(rest[0]))
        elif kind == "wait":
            self.now += rest[0]
            self.take(self.state.tick(self.now))
            assert self.state.chunk_deadline is None or self.state.chunk_deadline > self.now
        elif self.waiting:
            name, token = self.waiting.pop(rest[0] % len(self.waiting))
            self.released += self.state.succeed(name, token) if rest[1] else self.state.fail(name)
            if not rest[1]:
                self.sent_order.remove(token)

    def finish(self) -> None:
        self.take(self.state.half_close())
        while self.waiting:
            self.released += self.state.succeed(*self.waiting.pop(0))
        assert self.state.idle and self.state.held() == []
        if self.unordered:
            assert sorted(self.released) == sorted(self.sent_order)
        else:
            assert self.released == self.sent_order


@settings(max_examples=300)
@given(st.lists(STEP, max_size=30), st.booleans())
def test_any_interleaving_answers_each_arrival_once(steps: list[tuple], unordered: bool) -> None:
    model = Model(unordered)
    for step in steps:
        model.step(step)
    model.finish()


@pytest.mark.parametrize("broken_at", [1, 2, 3])
@settings(max_examples=50)
@given(st.data())
def test_a_frame_in_chunks_ends_exactly_once(broken_at: int, data: st.DataObject) -> None:
    """Whatever breaks it, one event answers it and the rest of its chunks are silent."""
    state = new_state()
    parts = chunks(frame("a", 8), [2, 2, 2, 2])
    how = data.draw(st.sampled_from(["skip", "repeat", "width", "cancel", "timeout"]))
    events: list[Event] = []
    for index, part in enumerate(parts):
        if index == broken_at and how == "skip":
            continue
        if index == broken_at and how == "repeat":
            events += state.chunk(parts[index - 1], 0.0)
        if index == broken_at and how == "width":
            part.part.voxels.num_features = 9
        if index == broken_at and how == "cancel":
            events += state.cancel("a")
        if index == broken_at and how == "timeout":
            events += state.tick(10.0)
        events += state.chunk(part, 0.0)
    events += state.half_close()
    assert [e.frame_id for e in events] == ["a"]
    assert isinstance(events[0], Broken)
