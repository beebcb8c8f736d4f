# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""What holds for any interleaving: the queue against a naive one, fairness, and no starvation."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from tests.server.fake_engine import frame_of

from voxgate_server.errors import Overloaded
from voxgate_server.frame_queue import BatchLimits, FrameQueue, Job, StreamQueue

# Whole numbers of 1/64 s, so that sums and halves are exact.
TICKS = st.integers(0, 128).map(lambda ticks: ticks / 64)
MODEL_ROOM = 8
SITES = st.integers(0, 60) | st.sampled_from([99, 100, 101, 500])


def new_job(stream: StreamQueue, sites: int = 10, deadline: float = math.inf) -> Job[Any]:
    return Job("a", frame_of(sites), [], stream, lambda _: None, deadline)


@dataclass
class NaiveQueue:
    """The rules of the design as slow as they read: lists, and a scan for every question."""

    limits: BatchLimits
    max_waiting: int
    jobs: list[Job[Any]] = field(default_factory=list)
    held_until: dict[Job[Any], float] = field(default_factory=dict)
    turns: list[StreamQueue] = field(default_factory=list)  # who goes first within a priority

    def of(self, stream: StreamQueue) -> list[Job[Any]]:
        return [job for job in self.jobs if job.stream is stream]

    def put(self, job: Job[Any], now: float) -> Job[Any] | None:
        """The replaced job. Raises Overloaded."""
        waiting = self.of(job.stream)
        hold = now + max(0.0, min(self.limits.max_delay, (job.deadline - now) / 2))
        replaced = waiting[0] if waiting and job.stream.latest else None
        if replaced is not None:
            hold = min(hold, self.held_until[replaced])
            self.jobs.remove(replaced)
        elif len(waiting) >= job.stream.max_waiting or len(self.jobs) >= self.max_waiting:
            raise Overloaded("full")
        self.jobs.append(job)
        self.held_until[job] = hold
        if job.stream not in self.turns:
            self.turns.append(job.stream)
        return replaced

    def expire(self, now: float) -> list[Job[Any]]:
        late = [job for job in self.jobs if job.deadline <= now]
        self.jobs = [job for job in self.jobs if job.deadline > now]
        return late

    def next(self) -> Job[Any] | None:
        waiting = [stream for stream in self.turns if self.of(stream)]
        if not waiting:
            return None
        return self.of(max(waiting, key=lambda stream: stream.priority))[0]

    def take(self, now: float) -> list[Job[Any]]:
        full = (
            len(self.jobs) >= self.limits.max_frames
            or sum(job.sites for job in self.jobs) >= self.limits.max_sites
        )
        if not full and not any(self.held_until[job] <= now for job in self.jobs):
            return []
        batch: list[Job[Any]] = []
        while (job := self.next()) is not None:
            sites = sum(job.sites for job in batch)
            if len(batch) == self.limits.max_frames:
                break
            if batch and sites + job.sites > self.limits.max_sites:
                break
            batch.append(job)
            self.jobs.remove(job)
            self.turns.remove(job.stream)
            if self.of(job.stream):
                self.turns.append(job.stream)
        return batch


class QueueMachine(RuleBasedStateMachine):
    """Streams that come, send, cancel, hang up and miss deadlines, and an engine that takes."""

    streams: Bundle[StreamQueue] = Bundle("streams")

    @initialize(max_frames=st.integers(1, 6), max_delay=st.sampled_from([0.0, 0.25, 1.0]))
    def begin(self, max_frames: int, max_delay: float) -> None:
        self.limits = BatchLimits(100, max_frames, max_delay)
        self.queue: FrameQueue[Any] = FrameQueue(self.limits, MODEL_ROOM)
        self.naive = NaiveQueue(self.limits, MODEL_ROOM)
        self.now = 0.0
        self.outcomes: Counter[Job[Any]] = Counter()
        self.sent: list[Job[Any]] = []
        # (waiting, served): how often the second stream was served since the first had its turn
        self.passed: Counter[tuple[StreamQueue, StreamQueue]] = Counter()

    def finish(self, job: Job[Any]) -> None:
        self.outcomes[job] += 1

    @rule(
        target=streams,
        max_waiting=st.integers(1, 4),
        latest=st.booleans(),
        priority=st.sampled_from([0, 0, 0, 1, -2]),
    )
    def open(self, max_waiting: int, latest: bool, priority: int) -> StreamQueue:
        return StreamQueue(1 if latest else max_waiting, latest, priority)

    @rule(stream=streams, sites=SITES, patience=st.none() | TICKS)
    def send(self, stream: StreamQueue, sites: int, patience: float | None) -> None:
        deadline = math.inf if patience is None else self.now + patience
        job = new_job(stream, sites, deadline)
        self.sent.append(job)
        try:
            expected = self.naive.put(job, self.now)
        except Overloaded:
            with pytest.raises(Overloaded):
                self.queue.put(job, self.now)
            self.finish(job)
            return
        replaced = self.queue.put(job, self.now)
        assert replaced is expected
        if replaced is not None:
            assert stream.latest and replaced.stream is stream
            self.finish(replaced)

    @precondition(lambda self: self.sent)
    @rule(which=st.integers(0))
    def cancel(self, which: int) -> None:
        job = self.sent[which % len(self.sent)]
        waited = job in self.naive.jobs
        assert self.queue.remove(job) is waited
        if waited:
            self.naive.jobs.remove(job)
            self.finish(job)

    @rule(stream=streams)
    def hang_up(self, stream: StreamQueue) -> None:
        for job in self.naive.of(stream):
            assert self.queue.remove(job)
            self.naive.jobs.remove(job)
            self.finish(job)

    @rule(ticks=TICKS)
    def wait(self, ticks: float) -> None:
        self.now += ticks

    @rule()
    def take(self) -> None:
        late = self.queue.expire(self.now)
        assert set(late) == set(self.naive.expire(self.now))
        assert all(job.deadline <= self.now for job in late)
        for job in late:
            self.finish(job)
        due = self.queue.wake_at(engine_free=True) <= self.now
        expected = self.naive.take(self.now)
        batch = self.queue.take(self.now)
        assert batch == expected
        assert due == bool(batch)
        self.check_batch(batch)
        for position, job in enumerate(batch):
            behind = {other.stream for other in batch[position + 1 :] + self.naive.jobs}
            self.serve(job, behind)

    def check_batch(self, batch: list[Job[Any]]) -> None:
        sites = sum(job.sites for job in batch)
        assert len(batch) <= self.limits.max_frames
        assert sites <= self.limits.max_sites or len(batch) == 1
        assert all(self.now < job.deadline and job.started_at == self.now for job in batch)

    def serve(self, job: Job[Any], behind: set[StreamQueue]) -> None:
        self.finish(job)
        served = job.stream
        for key in [key for key in self.passed if key[0] is served]:
            del self.passed[key]
        for other in behind - {served}:
            if other.priority == served.priority:
                self.passed[other, served] += 1
                assert self.passed[other, served] <= 1, "one stream had two turns of another's one"

    @invariant()
    def every_frame_waits_or_has_one_outcome(self) -> None:
        if not hasattr(self, "queue"):
            return
        waiting = set(self.naive.jobs)
        assert len(self.queue) == len(waiting)
        assert all(self.outcomes[job] == (job not in waiting) for job in self.sent)
        for stream in {job.stream for job in self.sent}:
            assert list(stream.waiting) == self.naive.of(stream)
            assert len(stream.waiting) <= stream.max_waiting

    def teardown(self) -> None:
        if hasattr(self, "queue"):
            left = self.naive.jobs
            assert self.queue.clear() == left
            assert self.queue.wake_at(engine_free=True) == math.inf
            assert all(not job.stream.waiting for job in left)


def test_any_interleaving_is_what_the_naive_queue_makes_of_it() -> None:
    run_state_machine_as_test(
        QueueMachine, settings=settings(max_examples=300, stateful_step_count=60)
    )


BACKLOGS = st.lists(st.lists(SITES, min_size=1, max_size=20), min_size=2, max_size=8)


@settings(max_examples=300)
@given(BACKLOGS, st.integers(1, 7))
def test_backlogged_streams_are_never_more_than_one_frame_apart(
    backlogs: list[list[int]], max_frames: int
) -> None:
    """Whatever their frames' sizes. The bound holds after every frame, not only after a round."""
    queue: FrameQueue[Any] = FrameQueue(BatchLimits(100, max_frames), 1000)
    streams = [StreamQueue(20) for _ in backlogs]
    for stream, sizes in zip(streams, backlogs, strict=True):
        for sites in sizes:
            queue.put(new_job(stream, sites), 0.0)
    served = dict.fromkeys(streams, 0)
    while batch := queue.take(0.0):
        backlogged = dict.fromkeys(streams, True)
        for job in batch:
            served[job.stream] += 1
            for stream, sizes in zip(streams, backlogs, strict=True):
                backlogged[stream] = served[stream] < len(sizes)
            counts = [served[stream] for stream in streams if backlogged[stream]]
            assert not counts or max(counts) - min(counts) <= 1
    assert list(served.values()) == [len(sizes) for sizes in backlogs]


@settings(max_examples=200)
@given(neighbours=st.integers(1, 8), arrivals=st.lists(st.integers(-3, 7), max_size=60))
def test_no_stream_starves_within_its_priority(neighbours: int, arrivals: list[int]) -> None:
    """Whoever else sends how much, a LATEST stream that keeps replacing its frame waits one round.

    A negative arrival is a new stream's frame: those join behind.
    """
    queue: FrameQueue[Any] = FrameQueue(BatchLimits(100, 1), 1000)
    camera = StreamQueue(1, latest=True)
    others = [StreamQueue(100) for _ in range(neighbours)]
    for stream in (*others, camera):
        queue.put(new_job(stream), 0.0)
    per_step = len(arrivals) // neighbours + 1
    for step in range(neighbours):
        for which in arrivals[step * per_step : (step + 1) * per_step]:
            stream = StreamQueue(1) if which < 0 else others[which % neighbours]
            queue.put(new_job(stream), float(step))
            queue.put(new_job(camera), float(step))
        (job,) = queue.take(float(step))
        assert job.stream is others[step]
    (job,) = queue.take(9.0)
    assert job.stream is camera


@settings(max_examples=200)
@given(st.integers(1, 6), st.integers(1, 4))
def test_a_deadline_shorter_than_a_round_does_not_starve_a_stream(
    neighbours: int, patience: int
) -> None:
    """Each of its frames may expire, but its turn comes nearer all the while."""
    queue: FrameQueue[Any] = FrameQueue(BatchLimits(100, 1), 1000)
    hasty = StreamQueue(1)
    others = [StreamQueue(100) for _ in range(neighbours)]
    for stream in others:
        for _ in range(30):
            queue.put(new_job(stream), 0.0)
    for step in range(neighbours + 1):
        queue.expire(float(step))
        if not hasty.waiting:
            queue.put(new_job(hasty, deadline=step + patience), float(step))
        (job,) = queue.take(float(step))
        if job.stream is hasty:
            return
    pytest.fail("a round went by without the stream")


@settings(max_examples=200)
@given(st.data())
def test_any_priorities_are_served_from_high_to_low(data: st.DataObject) -> None:
    queue: FrameQueue[Any] = FrameQueue(BatchLimits(10**6, 1000), 1000)
    priorities = data.draw(st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=20))
    for priority in priorities:
        queue.put(new_job(StreamQueue(1, priority=priority)), 0.0)
    taken = [job.stream.priority for job in queue.take(0.0)]
    assert taken == sorted(priorities, reverse=True)
