# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""The queue's rules with `now` as an argument."""

from __future__ import annotations

import asyncio
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxgate_server.codec import DecodedFrame
from voxgate_server.engine import Execution
from voxgate_server.errors import InternalError, Overloaded
from voxgate_server.scheduler import FrameQueue, Job, Scheduler, StreamQueue

FRAME = DecodedFrame({"coords": np.empty((0, 4), np.int32)}, 0, None)


def job(stream: StreamQueue, name: str = "a", deadline: float = math.inf) -> Job:
    return Job(name, FRAME, [], stream, lambda _: None, deadline)


def test_oldest_first_over_all_streams() -> None:
    queue = FrameQueue(10)
    streams = [StreamQueue(5), StreamQueue(5)]
    jobs = [job(streams[index % 2]) for index in range(6)]
    for index, one in enumerate(jobs):
        assert queue.put(one, float(index)) is None
    taken = [queue.take(10.0)[1] for _ in range(7)]
    assert taken == [*jobs, None]
    assert [one.queued_at for one in jobs] == [0, 1, 2, 3, 4, 5]
    assert all(one.started_at == 10.0 for one in jobs)
    assert not streams[0].waiting and not streams[1].waiting


def test_each_bound_is_named() -> None:
    queue = FrameQueue(3)
    small, large = StreamQueue(1), StreamQueue(5)
    queue.put(job(small), 0)
    with pytest.raises(Overloaded, match="1 frames of this stream"):
        queue.put(job(small), 0)
    queue.put(job(large), 0)
    queue.put(job(large), 0)
    with pytest.raises(Overloaded, match="3 frames of this model"):
        queue.put(job(large), 0)
    assert len(queue) == 3


def test_latest_replaces_even_in_a_full_queue() -> None:
    queue = FrameQueue(1)
    stream = StreamQueue(1, latest=True)
    first, second = job(stream), job(stream)
    assert queue.put(first, 0) is None
    assert queue.put(second, 1) is first
    assert queue.take(2)[1] is second
    assert len(queue) == 0


def test_late_frames_come_back_unrun() -> None:
    queue = FrameQueue(10)
    stream = StreamQueue(5)
    early, late, fine = (job(stream, deadline=d) for d in (1.0, 2.0, 3.0))
    for one in (early, late, fine):
        queue.put(one, 0)
    assert queue.take(2.0) == ([early, late], fine)


def test_a_frame_can_be_taken_back_while_it_waits_only() -> None:
    queue = FrameQueue(10)
    one = job(StreamQueue(5))
    assert not queue.remove(one)
    queue.put(one, 0)
    assert queue.remove(one) and not queue.remove(one)
    queue.put(one, 0)
    assert queue.take(0)[1] is one
    assert not queue.remove(one)


class EchoEngine:
    """Answers at once; a frame of 13 sites breaks it."""

    async def run(self, frame: DecodedFrame, outputs: object) -> Execution:
        if frame.num_sites == 13:
            raise RuntimeError("boom")
        return Execution({}, 0.0, 1, frame.num_sites)


async def test_neither_a_broken_run_nor_a_broken_stream_stops_the_others() -> None:
    scheduler = Scheduler(EchoEngine(), 10)  # type: ignore[arg-type]
    scheduler.start()
    answers: list[object] = []
    done = asyncio.Event()

    def broken(_: object) -> None:
        raise ValueError("a stream's mistake")

    def last(outcome: object) -> None:
        answers.append(outcome)
        done.set()

    stream = StreamQueue(5)
    unlucky = DecodedFrame({}, 13, None)
    scheduler.submit(Job("run", unlucky, [], stream, answers.append))
    scheduler.submit(Job("stream", FRAME, [], stream, broken))
    scheduler.submit(Job("good", FRAME, [], stream, last))
    await asyncio.wait_for(done.wait(), 5)
    await scheduler.close()
    assert isinstance(answers[0], InternalError) and "boom" in str(answers[0])
    assert isinstance(answers[1], Execution)


OPERATION = st.sampled_from(["put", "put", "take", "remove", "tick"])


@given(st.lists(st.tuples(OPERATION, st.integers(0, 2), st.floats(0.1, 5)), max_size=60))
def test_every_job_leaves_exactly_once(operations: list[tuple[str, int, float]]) -> None:
    queue = FrameQueue(4)
    streams = [StreamQueue(2), StreamQueue(3), StreamQueue(1, latest=True)]
    now = 0.0
    inside: list[Job] = []
    for kind, which, amount in operations:
        if kind == "put":
            one = job(streams[which], deadline=now + amount)
            try:
                replaced = queue.put(one, now)
            except Overloaded:
                assert len(streams[which].waiting) == streams[which].max_waiting or len(queue) == 4
                continue
            inside.append(one)
            if replaced is not None:
                inside.remove(replaced)
        elif kind == "take":
            late, taken = queue.take(now)
            assert all(now >= one.deadline for one in late)
            for one in late + ([] if taken is None else [taken]):
                inside.remove(one)
        elif kind == "remove" and inside:
            assert queue.remove(inside.pop(which % len(inside)))
        else:
            now += amount
        assert len(queue) == len(inside) <= 4
        assert sorted(map(id, inside)) == sorted(id(j) for s in streams for j in s.waiting)
        assert all(len(s.waiting) <= s.max_waiting for s in streams)
