# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""For any script of clients and engine, in virtual time: one outcome a frame, counted once.

A wait that nothing ends is an error there, so a frame left unanswered cannot pass for a slow one.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.server.fake_engine import FakeEngine, Observed, frame_of
from tests.server.virtual_time import clock, in_virtual_time

from voxgate_server.engine import Execution
from voxgate_server.errors import (
    DeadlineExceeded,
    Draining,
    FrameCancelled,
    InternalError,
    InvalidFrame,
    Overloaded,
    RequestError,
    Superseded,
    outcome_of,
)
from voxgate_server.frame_queue import BatchLimits, Job, StreamQueue
from voxgate_server.metrics import FrameCount, Metrics
from voxgate_server.scheduler import Scheduler

MAX_EXECUTE = 16.0
BUDGET = 100
# Frames whose number of sites says what becomes of them in the engine; others take a second.
REFUSED, BROKEN, SLOW, HANGING, HUGE = 61, 62, 63, 64, 500


@dataclass(frozen=True)
class Send:
    stream: int
    sites: int
    patience: float | None


@dataclass(frozen=True)
class Cancel:
    frame: int


@dataclass(frozen=True)
class HangUp:
    stream: int


@dataclass(frozen=True)
class Wait:
    seconds: float


STREAMS = st.integers(0, 4)
SITES = st.integers(0, 60) | st.sampled_from([REFUSED, BROKEN, SLOW, HANGING, HUGE])
SECONDS = st.sampled_from([0.0, 0.25, 0.5, 1.0, 2.0, 8.0])
STEP = st.one_of(
    st.builds(Send, STREAMS, SITES, st.none() | SECONDS),
    st.builds(Send, STREAMS, st.integers(0, 60), st.none()),
    st.builds(Cancel, st.integers(0, 30)),
    st.builds(HangUp, STREAMS),
    st.builds(Wait, SECONDS),
)


class World:
    """Five streams of all kinds, one scheduler, and the book that is kept on every frame."""

    def __init__(self, instances: int, limits: BatchLimits) -> None:
        self.limits = limits
        self.engine = FakeEngine(
            instances=instances,
            seconds_of={SLOW: 4.0, HANGING: 64.0},
            error_of={REFUSED: InvalidFrame("refused"), BROKEN: RuntimeError("broken")},
        )
        self.observed = Observed()
        self.scheduler = Scheduler(
            self.engine, limits, 12, max_execute=MAX_EXECUTE, metrics=self.observed, clock=clock
        )
        self.streams = [
            StreamQueue(4),
            StreamQueue(2),
            StreamQueue(4, priority=1),
            StreamQueue(1, latest=True),
            StreamQueue(1, latest=True, priority=-1),
        ]
        self.metrics = Metrics()
        self.sent: list[Sent] = []

    def act(self, step: Send | Cancel | HangUp) -> None:
        if isinstance(step, Send):
            self.send(step)
        elif isinstance(step, Cancel):
            self.cancel(self.sent[step.frame : step.frame + 1])
        else:
            self.cancel([s for s in self.sent if s.job.stream is self.streams[step.stream]])

    def send(self, step: Send) -> None:
        deadline = math.inf if step.patience is None else clock() + step.patience
        outputs = list(self.engine.outputs.values())
        stream = self.streams[step.stream]
        count = self.metrics.model("m", "1").frame_received()
        name = str(len(self.sent))
        sent = Sent(count, clock())
        sent.job = Job(name, frame_of(step.sites), outputs, stream, sent.end, deadline)
        self.sent.append(sent)
        try:
            self.scheduler.submit(sent.job)
        except RequestError as error:
            sent.end(error)

    def cancel(self, frames: list[Sent]) -> None:
        for sent in frames:
            waits = sent.job in sent.job.stream.waiting
            assert self.scheduler.cancel(sent.job) is waits
            if waits:
                sent.end(FrameCancelled("cancelled"))

    def check(self) -> None:
        ran = Counter(id(frame) for frames in self.engine.frames for frame in frames)
        for sent in self.sent:
            sent.check(times_run=ran[id(sent.job.frame)])
        for sizes in self.engine.batches:
            assert len(sizes) <= self.limits.max_frames
            assert sum(sizes) <= self.limits.max_sites or len(sizes) == 1
        samples = {
            (sample.name, sample.labels.get("outcome")): sample.value
            for family in self.metrics.registry.collect()
            for sample in family.samples
            if sample.labels.get("model") == "m"
        }
        ended = sum(n for (name, _), n in samples.items() if name == "voxgate_frames_total")
        received = samples.get(("voxgate_frames_received_total", None), 0)
        assert ended == received == len(self.sent)


@dataclass
class Sent:
    """One frame and what became of it."""

    count: FrameCount
    at: float
    job: Job[Execution] = field(init=False)
    outcome: Execution | RequestError | None = None
    ended_at: float = 0.0

    def end(self, outcome: Execution | RequestError) -> None:
        assert self.outcome is None, "a frame had two outcomes"
        self.outcome, self.ended_at = outcome, clock()
        self.count.finish(outcome_of(outcome) if isinstance(outcome, RequestError) else "ok")

    def check(self, times_run: int) -> None:
        job, outcome = self.job, self.outcome
        assert outcome is not None, "a frame was left without an outcome"
        if times_run:
            assert self.at <= job.started_at < job.deadline
        if isinstance(outcome, Execution):
            assert times_run >= 1 and job.sites not in (REFUSED, BROKEN)
            assert outcome.outputs["sites"][0] == job.sites
        elif isinstance(outcome, InvalidFrame):
            assert job.sites == REFUSED
        elif isinstance(outcome, InternalError):
            assert job.sites == BROKEN or "took longer than 16 s" in str(outcome)
        elif isinstance(outcome, DeadlineExceeded):
            # at the very moment, whether or not an engine was free then
            assert times_run == 0 and self.ended_at == max(job.deadline, self.at)
        elif isinstance(outcome, Superseded):
            assert times_run == 0 and job.stream.latest
        elif isinstance(outcome, Overloaded):
            assert times_run == 0 and self.ended_at == self.at
        else:
            assert isinstance(outcome, FrameCancelled | Draining)
            assert times_run == 0 or isinstance(outcome, Draining)


@in_virtual_time
async def play(
    script: list[Send | Cancel | HangUp | Wait],
    instances: int,
    max_frames: int,
    max_delay: float,
    cut: bool,
) -> None:
    world = World(instances, BatchLimits(BUDGET, max_frames, max_delay))
    world.scheduler.start()
    for step in script:
        if isinstance(step, Wait):
            await asyncio.sleep(step.seconds)
        else:
            world.act(step)
    if not cut:
        await world.scheduler.drained()
        await asyncio.sleep(1000)  # what hung comes back
        assert not world.scheduler.hung and world.engine.running == 0
        assert len(world.observed.runs) == len(world.engine.batches)
        assert not any(isinstance(sent.outcome, Draining) for sent in world.sent)
    await world.scheduler.close()
    await asyncio.sleep(1000)
    assert world.scheduler.queued_frames == 0
    world.check()


@settings(max_examples=500)
@given(
    script=st.lists(STEP, max_size=60),
    instances=st.integers(1, 3),
    max_frames=st.integers(1, 6),
    max_delay=st.sampled_from([0.0, 0.5, 4.0]),
    cut=st.booleans(),
)
def test_every_frame_gets_exactly_one_outcome(
    script: list[Send | Cancel | HangUp | Wait],
    instances: int,
    max_frames: int,
    max_delay: float,
    cut: bool,
) -> None:
    play(script, instances, max_frames, max_delay, cut)


@pytest.mark.parametrize("instances", [1, 2])
@pytest.mark.parametrize("streams", [2, 7])
@in_virtual_time
async def test_fifo_streams_under_overload_get_equal_shares(instances: int, streams: int) -> None:
    """Each keeps its queue full, whatever its frames cost: they are at most one frame apart."""
    engine = FakeEngine(instances=instances)
    scheduler = Scheduler(
        engine, BatchLimits(BUDGET, 3), 1000, max_execute=30, metrics=Observed(), clock=clock
    )
    outputs = list(engine.outputs.values())
    queues = [StreamQueue(8) for _ in range(streams)]
    served = [0] * streams

    def send(which: int) -> None:
        def resolve(outcome: Execution | RequestError) -> None:
            assert isinstance(outcome, Execution)
            served[which] += 1
            if clock() < 200:
                send(which)

        scheduler.submit(Job("a", frame_of(5 + 13 * which), outputs, queues[which], resolve))

    for which in range(streams):
        for _ in range(8):
            send(which)
    scheduler.start()
    for _ in range(199):
        await asyncio.sleep(1)
        assert max(served) - min(served) <= 1
    assert min(served) > 30
    await scheduler.drained()
    await scheduler.close()
