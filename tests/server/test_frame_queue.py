# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Each rule by which waiting frames become batches, with `now` as an argument."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from voxgate_server.codec import DecodedFrame
from voxgate_server.errors import Overloaded
from voxgate_server.frame_queue import BatchLimits, FrameQueue, Job, StreamQueue

WIDE = BatchLimits(max_sites=1000, max_frames=100)


def new_job(
    stream: StreamQueue, name: str = "a", sites: int = 10, deadline: float = math.inf
) -> Job[Any]:
    frame = DecodedFrame({"coords": np.empty((0, 4), np.int32)}, sites, None)
    return Job(name, frame, [], stream, lambda _: None, deadline)


def queue_of(*jobs: Job[Any], limits: BatchLimits = WIDE, max_waiting: int = 100) -> FrameQueue:
    queue: FrameQueue[Any] = FrameQueue(limits, max_waiting)
    for job in jobs:
        assert queue.put(job, 0.0) is None
    return queue


def names(jobs: list[Job[Any]]) -> str:
    return " ".join(job.frame_id for job in jobs)


def batches(queue: FrameQueue[Any], now: float = 0.0) -> list[str]:
    """Everything that waits, batch by batch."""
    taken = []
    while batch := queue.take(now):
        taken.append(names(batch))
    assert len(queue) == 0
    return taken


def fifo(priority: int = 0, max_waiting: int = 50) -> StreamQueue:
    return StreamQueue(max_waiting, priority=priority)


def latest(priority: int = 0) -> StreamQueue:
    return StreamQueue(1, latest=True, priority=priority)


# The budget ---------------------------------------------------------------------------------------


def test_a_batch_holds_at_most_max_batch_sites() -> None:
    jobs = [new_job(fifo(), name, sites=40) for name in "abcde"]
    assert batches(queue_of(*jobs, limits=BatchLimits(120, 100))) == ["a b c", "d e"]
    assert batches(queue_of(*jobs, limits=BatchLimits(119, 100))) == ["a b", "c d", "e"]


def test_a_batch_holds_at_most_max_batch_frames() -> None:
    jobs = [new_job(fifo(), name, sites=0) for name in "abcde"]
    assert batches(queue_of(*jobs, limits=BatchLimits(100, 2))) == ["a b", "c d", "e"]


def test_taking_stops_at_the_first_frame_that_does_not_fit() -> None:
    jobs = [
        new_job(fifo(), name, sites)
        for name, sites in (("a", 60), ("big", 50), ("b", 10), ("c", 10))
    ]
    queue = queue_of(*jobs, limits=BatchLimits(100, 100))
    assert names(queue.take(0.0)) == "a"  # b and c would fit, but big is next
    assert names(queue.take(0.0)) == "big b c"  # and loses nothing by having waited


def test_a_frame_above_the_budget_runs_alone() -> None:
    sizes = (("huge", 500), ("none", 0), ("a", 10), ("huge too", 101), ("b", 10))
    jobs = [new_job(fifo(), name, sites) for name, sites in sizes]
    queue = queue_of(*jobs, limits=BatchLimits(100, 100))
    assert batches(queue) == ["huge", "none a", "huge too", "b"]


@pytest.mark.parametrize("wrong", [(0, 1, 0.0), (1, 0, 0.0), (1, 1, -1.0), (1, 1, math.nan)])
def test_limits_that_could_never_make_a_batch(wrong: tuple[int, int, float]) -> None:
    with pytest.raises(ValueError, match="max_sites ≥ 1, max_frames ≥ 1, max_delay ≥ 0"):
        BatchLimits(*wrong)


# The order ----------------------------------------------------------------------------------------


def test_higher_priority_first() -> None:
    low, high, mid = fifo(-3), fifo(7), fifo(0)
    jobs = [new_job(low, "l"), new_job(mid, "m"), new_job(high, "h1"), new_job(high, "h2")]
    assert batches(queue_of(*jobs)) == ["h1 h2 m l"]


def test_a_changed_priority_holds_from_the_next_time_in_line() -> None:
    demoted, promoted, other = fifo(7), fifo(-3), fifo(0)
    jobs = [new_job(s, f"{n}{i}") for n, s in (("d", demoted), ("p", promoted)) for i in range(3)]
    queue = queue_of(*jobs, new_job(other, "o"), limits=BatchLimits(100, 1))
    demoted.priority, promoted.priority = -5, 5
    # Each has its place still: from the frame after its next on, it stands at the new one.
    assert batches(queue) == ["d0", "o", "p0", "p1", "p2", "d1", "d2"]
    queue.put(new_job(demoted, "d"), 0.0)
    queue.put(new_job(promoted, "p"), 0.0)
    assert batches(queue) == ["p", "d"]


def test_a_frame_of_higher_priority_that_does_not_fit_is_not_passed_by_lower_ones() -> None:
    jobs = [new_job(fifo(1), "h1", 60), new_job(fifo(1), "h2", 60), new_job(fifo(0), "l", 1)]
    assert batches(queue_of(*jobs, limits=BatchLimits(100, 100))) == ["h1", "h2 l"]


def test_round_robin_over_streams() -> None:
    a, b, c = fifo(), fifo(), fifo()
    jobs = [new_job(a, f"a{i}") for i in range(3)]
    jobs += [new_job(b, f"b{i}") for i in range(2)]
    jobs += [new_job(c, "c0")]
    assert batches(queue_of(*jobs)) == ["a0 b0 c0 a1 b1 a2"]


def test_the_round_goes_on_in_the_next_batch() -> None:
    streams = [fifo() for _ in range(3)]
    jobs = [new_job(stream, f"{s}{i}") for i in range(2) for s, stream in enumerate(streams)]
    queue = queue_of(*jobs, limits=BatchLimits(1000, 2))
    assert batches(queue) == ["00 10", "20 01", "11 21"]


def test_then_oldest_first() -> None:
    queue = queue_of()
    streams = [fifo() for _ in range(4)]
    for now, which in enumerate([2, 0, 3, 1]):
        queue.put(new_job(streams[which], str(which)), float(now))
    assert batches(queue, 9.0) == ["2 0 3 1"]


def test_a_stream_that_has_been_served_joins_at_the_back() -> None:
    a, b, c = fifo(), fifo(), fifo()
    jobs = [new_job(a, "a0"), new_job(b, "b0"), new_job(c, "c0")]
    queue = queue_of(*jobs, limits=BatchLimits(10, 100))
    assert names(queue.take(0.0)) == "a0"
    queue.put(new_job(a, "a1"), 1.0)
    assert batches(queue, 2.0) == ["b0", "c0", "a1"]


def test_a_taken_frame_knows_when_it_queued_and_started() -> None:
    queue = queue_of()
    job = new_job(fifo())
    queue.put(job, 3.0)
    assert queue.take(5.0) == [job]
    assert (job.queued_at, job.started_at) == (3.0, 5.0)


# Keeping a turn -----------------------------------------------------------------------------------


def test_a_replaced_frame_leaves_its_stream_its_turn() -> None:
    camera, others = latest(), [fifo(), fifo()]
    queue = queue_of(new_job(camera, "old"), *(new_job(s, "x") for s in others))
    queue.put(new_job(camera, "new"), 1.0)
    assert batches(queue, 2.0) == ["new x x"]


def test_an_expired_frame_leaves_its_stream_its_turn() -> None:
    """A deadline shorter than a round would otherwise keep a stream from ever being served."""
    hasty, patient = fifo(), fifo()
    queue = queue_of(new_job(hasty, "late", deadline=1.0), new_job(patient, "p"))
    assert names(queue.expire(1.0)) == "late"
    queue.put(new_job(hasty, "again", deadline=3.0), 2.0)
    assert batches(queue, 2.0) == ["again p"]


def test_a_cancelled_frame_leaves_its_stream_its_turn() -> None:
    a, b = fifo(), fifo()
    first = new_job(a, "first")
    queue = queue_of(first, new_job(b, "b"))
    queue.remove(first)
    queue.put(new_job(a, "second"), 1.0)
    assert batches(queue, 1.0) == ["second b"]


def test_a_kept_turn_is_worth_one_frame() -> None:
    a, b = fifo(), fifo()
    first = new_job(a, "first")
    queue = queue_of(first, new_job(b, "b0"), new_job(b, "b1"))
    queue.remove(first)
    for name in ("a0", "a1"):
        queue.put(new_job(a, name), 1.0)
    assert batches(queue, 1.0) == ["a0 b0 a1 b1"]


# max_queue_delay ----------------------------------------------------------------------------------

HELD = BatchLimits(max_sites=100, max_frames=3, max_delay=0.5)


def test_without_a_delay_a_frame_runs_at_once() -> None:
    queue = queue_of(new_job(fifo()))
    assert queue.wake_at(engine_free=True) <= 0.0
    assert len(queue.take(0.0)) == 1


def test_frames_are_held_until_the_oldest_has_waited_max_queue_delay() -> None:
    queue = queue_of(limits=HELD)
    queue.put(new_job(fifo(1), "a"), 1.0)
    queue.put(new_job(fifo(2), "b"), 1.25)
    assert queue.take(1.49) == []
    assert queue.wake_at(engine_free=True) == 1.5
    assert queue.wake_at(engine_free=False) == math.inf
    assert names(queue.take(1.5)) == "b a"


def test_when_the_oldest_is_gone_the_hold_is_that_of_the_next() -> None:
    queue = queue_of(limits=HELD)
    first = new_job(fifo())
    queue.put(first, 1.0)
    queue.put(new_job(fifo()), 1.25)
    queue.remove(first)
    assert queue.wake_at(engine_free=True) == 1.75


@pytest.mark.parametrize("sites", [(1, 1, 1), (50, 50), (60, 41), (500,)])
def test_a_batch_that_cannot_grow_is_not_held(sites: tuple[int, ...]) -> None:
    queue = queue_of(*(new_job(fifo(), sites=n) for n in sites), limits=HELD)
    assert queue.wake_at(engine_free=True) <= 0.0
    assert queue.take(0.0)


def test_a_frame_is_held_for_at_most_half_of_its_time() -> None:
    """A hold longer than a deadline would let the frame expire beside a free engine."""
    queue = queue_of(limits=HELD)
    queue.put(new_job(fifo(), deadline=10.25), 10.0)
    assert queue.wake_at(engine_free=True) == 10.125
    assert queue.expire(10.125) == []
    assert len(queue.take(10.125)) == 1


def test_replacing_a_frame_does_not_prolong_the_hold() -> None:
    """A sensor faster than the hold would otherwise never be served."""
    queue, camera = queue_of(limits=HELD), latest()
    for step in range(8):
        queue.put(new_job(camera, str(step)), 1 + step / 16)
    assert queue.wake_at(engine_free=True) == 1.5
    assert names(queue.take(1.5)) == "7"
    queue.put(new_job(camera, "8"), 1.5)
    assert queue.wake_at(engine_free=True) == 2.0


# LATEST -------------------------------------------------------------------------------------------


def test_latest_replaces_the_waiting_frame() -> None:
    camera = latest()
    first, second, third = (new_job(camera, name) for name in ("1", "2", "3"))
    queue = queue_of(first)
    assert queue.put(second, 1.0) is first
    assert queue.put(third, 2.0) is second
    assert batches(queue, 2.0) == ["3"]


def test_latest_replaces_even_where_the_model_has_no_room() -> None:
    camera = latest()
    first, second = new_job(camera), new_job(camera)
    queue = queue_of(first, max_waiting=1)
    assert queue.put(second, 1.0) is first
    assert len(queue) == 1


def test_a_frame_taken_into_a_batch_is_never_replaced() -> None:
    camera = latest()
    queue = queue_of(new_job(camera, "running"))
    assert names(queue.take(0.0)) == "running"
    assert queue.put(new_job(camera, "waiting"), 1.0) is None
    assert len(queue) == 1


def test_a_refused_frame_replaces_nothing() -> None:
    camera = latest()
    waiting = new_job(camera, "waiting")
    queue = queue_of(waiting)
    with pytest.raises(ValueError, match="waits in a queue already"):
        queue.put(waiting, 1.0)
    with pytest.raises(ValueError, match="waits in a queue already"):
        queue_of().put(new_job(camera, "stray"), 1.0)
    assert batches(queue) == ["waiting"]


# Bounds -------------------------------------------------------------------------------------------


def test_a_full_fifo_queue_refuses_at_once_and_says_which() -> None:
    small, large = fifo(max_waiting=1), fifo(max_waiting=5)
    queue = queue_of(new_job(small, "s"), max_waiting=3)
    with pytest.raises(Overloaded, match="1 frames of this stream.*max_queued_frames or LATEST"):
        queue.put(new_job(small), 0)
    queue.put(new_job(large, "l1"), 0)
    queue.put(new_job(large, "l2"), 0)
    with pytest.raises(Overloaded, match="3 frames of this model"):
        queue.put(new_job(large), 0)
    with pytest.raises(Overloaded, match="3 frames of this model"):
        queue.put(new_job(latest()), 0)
    assert batches(queue) == ["s l1 l2"]


def test_who_has_most_waiting_gives_way_in_a_full_model() -> None:
    flooder, other, newcomer = fifo(), fifo(), fifo()
    jobs = [new_job(flooder, f"f{i}") for i in range(4)] + [new_job(other, "o1")]
    queue = queue_of(*jobs, max_waiting=6)
    assert queue.make_room(newcomer) is None  # there is room
    queue.put(new_job(other, "o2"), 0)
    for name, expected in (("n1", "f3"), ("n2", "f2")):
        gives_way = queue.make_room(newcomer)
        assert gives_way is not None and gives_way.frame_id == expected  # the newest
        queue.put(new_job(newcomer, name), 0)
    for stream in (flooder, other, newcomer):  # two each: none has more than its share
        assert queue.make_room(stream) is None
        with pytest.raises(Overloaded, match="6 frames of this model"):
            queue.put(new_job(stream), 0)
    assert batches(queue) == ["f0 o1 n1 f1 o2 n2"]


def test_streams_of_one_client_give_way_as_one() -> None:
    flooder = [StreamQueue(5, client="flooder") for _ in range(4)]
    neighbour = StreamQueue(5, client="neighbour")
    queue = queue_of(*(new_job(s, f"f{i}") for i, s in enumerate(flooder)), max_waiting=4)
    for name in ("n0", "n1"):
        gives_way = queue.make_room(neighbour)
        assert gives_way is not None and gives_way.stream in flooder
        queue.put(new_job(neighbour, name), 0)
    assert queue.make_room(neighbour) is None  # two each
    assert queue.make_room(StreamQueue(5, client="flooder")) is None


def test_lower_priority_gives_way_first() -> None:
    many, one = fifo(), fifo(priority=1)
    queue = queue_of(*(new_job(many, f"m{i}") for i in range(2)), new_job(one, "o"), max_waiting=3)
    for expected in ("m1", "m0"):
        gives_way = queue.make_room(one)
        assert gives_way is not None and gives_way.frame_id == expected
        queue.put(new_job(one), 0)
    assert queue.make_room(one) is None


def test_who_gives_way_has_no_higher_priority_and_makes_no_room_for_a_full_stream() -> None:
    urgent, full = fifo(priority=1), fifo(max_waiting=1)
    jobs = [new_job(urgent, f"u{i}") for i in range(4)] + [new_job(full, "f1")]
    queue = queue_of(*jobs, max_waiting=5)
    assert queue.make_room(fifo()) is None
    assert queue.make_room(full) is None
    gives_way = queue.make_room(fifo(priority=1))
    assert gives_way is not None and gives_way.frame_id == "f1"


def test_a_frame_taken_makes_room() -> None:
    stream = fifo(max_waiting=1)
    queue = queue_of(new_job(stream), max_waiting=1)
    queue.take(0.0)
    assert queue.put(new_job(stream), 0.0) is None


# Deadlines ----------------------------------------------------------------------------------------


def test_a_frame_that_could_not_start_in_time_is_never_taken() -> None:
    stream = fifo()
    jobs = [new_job(stream, str(d), deadline=d) for d in (3.0, 1.0, 2.0, 9.0)]
    queue = queue_of(*jobs)
    assert queue.wake_at(engine_free=False) == 1.0
    assert queue.take(2.0) == []  # not before the late ones are out
    assert names(queue.expire(2.0)) == "1.0 2.0"
    assert queue.expire(2.0) == []
    assert names(queue.take(2.0)) == "3.0 9.0"
    assert queue.wake_at(engine_free=False) == math.inf


def test_a_deadline_is_the_first_moment_that_is_too_late() -> None:
    queue = queue_of(new_job(fifo(), deadline=2.0))
    assert queue.expire(math.nextafter(2.0, 0)) == []
    assert len(queue.expire(2.0)) == 1


def test_a_frame_that_has_started_has_no_deadline() -> None:
    queue = queue_of(new_job(fifo(), deadline=2.0))
    queue.take(1.0)
    assert queue.expire(3.0) == []


# Cancel -------------------------------------------------------------------------------------------


def test_only_a_waiting_frame_can_be_taken_back() -> None:
    queue, job = queue_of(), new_job(fifo())
    assert not queue.remove(job)
    queue.put(job, 0)
    assert queue.remove(job) and not queue.remove(job)
    queue.put(job, 0)
    assert queue.take(0) == [job]
    assert not queue.remove(job)


def test_what_was_taken_back_counts_no_more() -> None:
    small, big = new_job(fifo(), "small", 10), new_job(fifo(), "big", 95, deadline=1.0)
    queue = queue_of(small, big, limits=BatchLimits(100, 100, max_delay=4.0))
    assert queue.remove(big)
    assert queue.wake_at(engine_free=True) == 4.0
    assert queue.expire(1.0) == []
    assert names(queue.take(4.0)) == "small"


def test_clear_takes_everything_oldest_first() -> None:
    jobs = [new_job(fifo(priority), str(priority)) for priority in (1, 3, 2)]
    queue = queue_of(*jobs)
    assert queue.clear() == jobs
    assert len(queue) == 0 and queue.wake_at(engine_free=True) == math.inf


def test_a_stream_may_move_on_to_another_queue_when_nothing_of_it_waits() -> None:
    """A model's next version: the turn it brings along is comparable there."""
    mover, settled = fifo(), [fifo() for _ in range(3)]
    old, new = queue_of(new_job(mover, "m0")), queue_of()
    old.take(0.0)
    for stream in settled:
        new.put(new_job(stream, "s"), 1.0)
    new.put(new_job(mover, "m1"), 1.0)
    new.put(new_job(settled[0], "t"), 1.0)
    assert batches(new, 1.0) == ["s s s m1 t"]


# Cost ---------------------------------------------------------------------------------------------


class Counted(float):
    """A time that counts how often one is compared."""

    comparisons = 0

    def __eq__(self, other: object) -> bool:
        Counted.comparisons += 1
        return float(self) == other

    def __lt__(self, other: float) -> bool:
        Counted.comparisons += 1
        return float(self) < other

    __hash__ = float.__hash__


def test_no_operation_looks_at_all_waiting_frames() -> None:
    """200 streams with 64 frames each: a scan would compare 12,800 times."""
    streams = [fifo(priority=s % 3, max_waiting=64) for s in range(200)]
    queue: FrameQueue[Any] = FrameQueue(BatchLimits(10**6, 32, max_delay=1.0), 200 * 64)
    jobs = [
        new_job(stream, deadline=Counted(1000 + (7919 * i + s) % 12_800))
        for i in range(64)
        for s, stream in enumerate(streams)
    ]
    for job in jobs:
        queue.put(job, 0.0)

    def cost(operation: Callable[..., Any], *args: Any) -> int:
        before = Counted.comparisons
        operation(*args)
        return Counted.comparisons - before

    one_frame = 100  # a few binary searches: log2 of 12,800 is 14
    assert 0 < cost(queue.take, 5.0) < 32 * one_frame
    assert 0 < cost(queue.remove, jobs[6400]) < one_frame
    assert 0 < cost(queue.put, jobs[6400], 6.0) < one_frame
    assert 0 < cost(queue.expire, 1009.5) < 11 * one_frame
