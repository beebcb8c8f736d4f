# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""The loop around the queue, in virtual time: every frame gets one outcome, at the right moment."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from tests.server.fake_engine import FakeEngine, Observed, frame_of
from tests.server.virtual_time import clock, in_virtual_time

from voxgate_protos import voxel_inference_pb2 as pb
from voxgate_server.codec import DecodedFrame, FrameSpec, OutputSpec, decode, payload_of
from voxgate_server.engine import Execution
from voxgate_server.errors import (
    DeadlineExceeded,
    Draining,
    InternalError,
    InvalidFrame,
    Overloaded,
    RequestError,
    Superseded,
)
from voxgate_server.frame_queue import BatchLimits, Job, StreamQueue
from voxgate_server.scheduler import Scheduler


@dataclass(slots=True)
class Answer:
    outcome: Execution | RequestError
    at: float

    @property
    def error(self) -> str:
        assert isinstance(self.outcome, RequestError)
        return str(self.outcome)


@dataclass
class Server:
    """A scheduler over a fake engine, and what it answered."""

    engine: FakeEngine = field(default_factory=FakeEngine)
    limits: BatchLimits = BatchLimits(1000, 100)
    max_waiting: int = 100
    max_execute: float = 30.0

    def __post_init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.observed = Observed()
        self.scheduler = Scheduler(
            self.engine,
            self.limits,
            self.max_waiting,
            max_execute=self.max_execute,
            metrics=self.observed,
            clock=clock,
        )

    async def __aenter__(self) -> Server:
        self.scheduler.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.scheduler.close()

    def send(
        self,
        name: str,
        *,
        stream: StreamQueue | None = None,
        sites: int = 10,
        deadline: float = math.inf,
        outputs: Sequence[OutputSpec] | None = None,
        frame: DecodedFrame | None = None,
    ) -> Job[Execution]:
        def resolve(outcome: Execution | RequestError) -> None:
            assert name not in self.answers, "answered twice"
            self.answers[name] = Answer(outcome, clock())

        stream = StreamQueue(100) if stream is None else stream
        frame = frame or frame_of(sites)
        outputs = list(self.engine.outputs.values()) if outputs is None else outputs
        job: Job[Execution] = Job(name, frame, outputs, stream, resolve, deadline)
        self.scheduler.submit(job)
        return job

    def ok(self, name: str) -> bool:
        return name in self.answers and isinstance(self.answers[name].outcome, Execution)

    def errors(self) -> dict[str, type]:
        found = {n: a.outcome for n, a in self.answers.items()}
        return {n: type(o) for n, o in found.items() if isinstance(o, RequestError)}


# Batches ------------------------------------------------------------------------------------------


@in_virtual_time
async def test_frames_that_wait_together_run_together() -> None:
    async with Server() as server:
        for index, name in enumerate("abc"):
            server.send(name, sites=10 + index)
        await server.scheduler.drained()
        assert server.engine.batches == [[10, 11, 12]]
        sites = {n: a.outcome.outputs["sites"][0] for n, a in server.answers.items()}
        assert sites == {"a": 10, "b": 11, "c": 12}


@in_virtual_time
async def test_frames_that_come_while_the_engine_is_busy_are_the_next_batch() -> None:
    async with Server(FakeEngine(seconds=2)) as server:
        server.send("a")
        await asyncio.sleep(1)
        for name in "bcd":
            server.send(name)
        assert server.scheduler.queued_frames == 3
        await server.scheduler.drained()
        assert server.engine.batches == [[10], [10, 10, 10]]
        assert {n: a.at for n, a in server.answers.items()} == {"a": 2, "b": 4, "c": 4, "d": 4}


@in_virtual_time
async def test_a_batch_never_exceeds_its_budgets() -> None:
    async with Server(limits=BatchLimits(100, 3)) as server:
        for index, sites in enumerate([60, 50, 30, 20, 0, 0, 0, 500, 1]):
            server.send(str(index), sites=sites)
        await server.scheduler.drained()
        assert server.engine.batches == [[60], [50, 30, 20], [0, 0, 0], [500], [1]]


@in_virtual_time
async def test_a_model_that_cannot_be_batched_gets_frames_one_by_one() -> None:
    async with Server(FakeEngine(batchable=False)) as server:
        for name in "abc":
            server.send(name)
        await server.scheduler.drained()
        assert server.engine.batches == [[10], [10], [10]]


@in_virtual_time
async def test_a_free_engine_holds_a_frame_for_max_queue_delay() -> None:
    async with Server(limits=BatchLimits(1000, 3, max_delay=4)) as server:
        await asyncio.sleep(1)
        server.send("a")
        await asyncio.sleep(3)
        server.send("b")
        await server.scheduler.drained()
        assert server.answers["a"].at == server.answers["b"].at == 6  # 1 + 4, and the run
        assert server.engine.batches == [[10, 10]]


@in_virtual_time
async def test_a_full_batch_is_not_held() -> None:
    async with Server(limits=BatchLimits(1000, 3, max_delay=4)) as server:
        server.send("a")
        await asyncio.sleep(2)
        server.send("b")
        server.send("c")
        await server.scheduler.drained()
        assert {a.at for a in server.answers.values()} == {3}


@in_virtual_time
async def test_instances_run_at_once_and_finish_out_of_order() -> None:
    engine = FakeEngine(instances=2)
    engine.seconds_of[11] = 8
    async with Server(engine, limits=BatchLimits(1000, 1)) as server:
        for name, sites in (("slow", 11), ("a", 10), ("b", 10)):
            server.send(name, sites=sites)
        await server.scheduler.drained()
        assert {n: a.at for n, a in server.answers.items()} == {"a": 1, "b": 2, "slow": 8}


@in_virtual_time
async def test_frames_submitted_before_the_start_run_after_it() -> None:
    server = Server()
    server.send("a")
    await asyncio.sleep(5)
    assert not server.engine.batches
    async with server:
        await server.scheduler.drained()
    assert server.ok("a")


# Outputs ------------------------------------------------------------------------------------------


@in_virtual_time
async def test_a_run_gives_what_any_frame_asks_for_and_a_frame_what_it_asked_for() -> None:
    engine = FakeEngine()
    labels, boxes, heat = (OutputSpec(n, 1, (-1,), "per_site") for n in ("labels", "boxes", "heat"))
    engine.outputs = {spec.name: spec for spec in (labels, boxes, heat)}
    async with Server(engine) as server:
        server.send("a", outputs=[heat])
        server.send("b", outputs=[heat, labels])
        await server.scheduler.drained()
        server.send("c", outputs=[boxes])
        await server.scheduler.drained()
        assert engine.asked == [["labels", "heat"], ["boxes"]]  # in the graph's order
        got = {name: sorted(a.outcome.outputs) for name, a in server.answers.items()}
        assert got == {"a": ["heat"], "b": ["heat", "labels"], "c": ["boxes"]}


# Deadlines ----------------------------------------------------------------------------------------


@in_virtual_time
async def test_a_late_frame_is_answered_at_its_deadline_and_never_executed() -> None:
    async with Server(FakeEngine(seconds=8)) as server:
        server.send("running")
        await asyncio.sleep(1)
        server.send("late", deadline=5, sites=13)
        server.send("later", deadline=7, sites=13)
        server.send("fine", deadline=9, sites=14)
        await server.scheduler.drained()
        assert server.errors() == {"late": DeadlineExceeded, "later": DeadlineExceeded}
        assert (server.answers["late"].at, server.answers["later"].at) == (5, 7)
        assert "passed 0.0 ms ago, after 4000.0 ms in the queue" in server.answers["late"].error
        assert server.engine.batches == [[10], [14]]


@in_virtual_time
async def test_a_frame_that_has_started_is_answered_with_its_result() -> None:
    async with Server(FakeEngine(seconds=8)) as server:
        server.send("a", deadline=1)
        await server.scheduler.drained()
        assert server.ok("a") and server.answers["a"].at == 8


@in_virtual_time
async def test_a_frame_that_comes_too_late_is_answered_at_once() -> None:
    async with Server() as server:
        await asyncio.sleep(5)
        server.send("a", deadline=4)
        await server.scheduler.drained()
        assert server.errors() == {"a": DeadlineExceeded} and server.answers["a"].at == 5
        assert "passed 1000.0 ms ago" in server.answers["a"].error


@in_virtual_time
async def test_a_late_frame_keeps_no_other_one_out() -> None:
    """The loop may be behind with its timers when a frame comes."""
    async with Server(FakeEngine(seconds=8), max_waiting=1) as server:
        server.send("running")
        await asyncio.sleep(1)
        server.send("late", deadline=2)
        asyncio.get_running_loop()._jumping.now = 3.0  # type: ignore[attr-defined]
        server.send("next")
        assert server.errors() == {"late": DeadlineExceeded}


@in_virtual_time
async def test_an_earlier_deadline_moves_the_timer_forward() -> None:
    async with Server(FakeEngine(seconds=16)) as server:
        server.send("running")
        await asyncio.sleep(1)
        for deadline in (9, 5, 12, 3):
            server.send(str(deadline), deadline=deadline)
            await asyncio.sleep(0.125)
        await server.scheduler.drained()
        times = {n: a.at for n, a in server.answers.items() if n != "running"}
        assert times == {"9": 9, "5": 5, "12": 12, "3": 3}


# LATEST, bounds, cancel ---------------------------------------------------------------------------


@in_virtual_time
async def test_latest_answers_the_replaced_frame_with_the_id_of_the_newer() -> None:
    camera = StreamQueue(1, latest=True)
    async with Server(FakeEngine(seconds=4)) as server:
        server.send("running", stream=camera)
        await asyncio.sleep(1)
        for name in ("1", "2", "3"):
            server.send(name, stream=camera)
        await server.scheduler.drained()
        assert server.errors() == {"1": Superseded, "2": Superseded}
        assert server.answers["1"].error == "superseded by 2"
        assert (server.answers["2"].at, server.ok("running"), server.ok("3")) == (1, True, True)


@in_virtual_time
async def test_a_bad_frame_replaces_nothing() -> None:
    camera = StreamQueue(1, latest=True)
    spec = FrameSpec("voxels", (9, 9, 9), 1, np.dtype(np.float32), False, 1000, 40_000)

    def wire_frame(name: str, count: int, features: bytes) -> pb.Frame:
        fields = {"coords_dtype": pb.INT16, "features_dtype": pb.FLOAT32, "num_features": 1}
        coords = np.array([(0, 0, x) for x in range(count)], np.int16).tobytes()
        voxels = pb.SparseVoxels(num_sites=count, coords=coords, features=features, **fields)
        return pb.Frame(frame_id=name, voxels=voxels)

    async with Server(FakeEngine(seconds=4)) as server:

        def receive(name: str, count: int, features: bytes | None = None) -> None:
            features = bytes(4 * count) if features is None else features
            frame = decode([payload_of(wire_frame(name, count, features), spec)], spec)
            server.send(name, stream=camera, frame=frame)

        receive("running", 5)
        await asyncio.sleep(1)
        receive("good", 6)
        with pytest.raises(InvalidFrame):
            receive("bad", 7, features=b"")
        await server.scheduler.drained()
        assert server.engine.batches == [[5], [6]]
        assert server.ok("good") and "bad" not in server.answers


@in_virtual_time
async def test_a_full_queue_refuses_without_an_answer() -> None:
    stream = StreamQueue(2)
    async with Server(FakeEngine(seconds=4)) as server:
        server.send("running", stream=stream)
        await asyncio.sleep(1)
        server.send("1", stream=stream)
        server.send("2", stream=stream)
        with pytest.raises(Overloaded, match="2 frames of this stream"):
            server.send("3", stream=stream)
        await server.scheduler.drained()
        assert sorted(server.answers) == ["1", "2", "running"] and not server.errors()


@in_virtual_time
async def test_a_cancelled_frame_that_waits_is_forgotten() -> None:
    async with Server(FakeEngine(seconds=4)) as server:
        server.send("running")
        await asyncio.sleep(1)
        waiting = server.send("waiting", sites=13)
        assert server.scheduler.cancel(waiting)
        assert not server.scheduler.cancel(waiting)
        await server.scheduler.drained()
        assert list(server.answers) == ["running"]
        assert server.engine.batches == [[10]]


@in_virtual_time
async def test_a_frame_that_executes_cannot_be_cancelled_and_gets_its_result() -> None:
    async with Server(FakeEngine(seconds=4)) as server:
        job = server.send("a")
        await asyncio.sleep(1)
        assert not server.scheduler.cancel(job)
        await server.scheduler.drained()
        assert server.ok("a")
        assert not server.scheduler.cancel(job)


# Failures -----------------------------------------------------------------------------------------


@in_virtual_time
async def test_in_a_batch_that_fails_only_the_culprits_fail() -> None:
    engine = FakeEngine(seconds=2)
    engine.error_of = {13: InvalidFrame("13 sites"), 17: RuntimeError("boom")}
    async with Server(engine) as server:
        for name, sites in (("a", 10), ("refused", 13), ("b", 11), ("broken", 17)):
            server.send(name, sites=sites, deadline=1)  # over when the frames run again
        await server.scheduler.drained()
        assert engine.batches == [[10, 13, 11, 17], [10], [13], [11], [17]]
        assert server.errors() == {"refused": InvalidFrame, "broken": InternalError}
        assert server.answers["broken"].error == "RuntimeError: boom"
        assert (server.answers["a"].at, server.answers["b"].at) == (4, 8)
        execution = server.answers["b"].outcome
        assert isinstance(execution, Execution) and execution.batch_frames == 1


@in_virtual_time
async def test_after_a_failure_the_next_frames_run() -> None:
    engine = FakeEngine(error_of={13: RuntimeError("boom")})
    async with Server(engine) as server:
        server.send("broken", sites=13)
        await asyncio.sleep(0.5)
        server.send("next")
        await server.scheduler.drained()
        assert server.errors() == {"broken": InternalError}
        assert server.ok("next") and engine.batches == [[13], [10]]


@in_virtual_time
async def test_a_run_that_loses_a_frame_answers_all_the_same() -> None:
    async with Server(FakeEngine(lost=True)) as server:
        server.send("a")
        server.send("b")
        await server.scheduler.drained()
        assert server.errors() == {"a": InternalError, "b": InternalError}
        assert server.answers["a"].error == "1 frames ran, 0 came back"


@in_virtual_time
async def test_a_run_that_is_cancelled_from_below_answers_its_frames() -> None:
    engine = FakeEngine(error_of={13: asyncio.CancelledError()})
    async with Server(engine) as server:
        for name, sites in (("a", 10), ("b", 13)):
            server.send(name, sites=sites)
        await server.scheduler.drained()
        assert server.errors() == {"a": InternalError, "b": InternalError}
        server.send("c")
        await server.scheduler.drained()
        assert server.ok("c")


@in_virtual_time
async def test_an_answer_that_cannot_be_delivered_stops_nobody_else(caplog: Any) -> None:
    async with Server() as server:

        def broken(_: object) -> None:
            raise ValueError("a stream's mistake")

        job: Job[Execution] = Job("bad", frame_of(1), [], StreamQueue(1), broken)
        with caplog.at_level(logging.ERROR):
            server.scheduler.submit(job)
            server.send("good")
            await server.scheduler.drained()
        assert server.ok("good") and "'bad' could not be answered" in caplog.text


# Runs that hang -----------------------------------------------------------------------------------


@in_virtual_time
async def test_a_run_over_max_execute_is_answered_and_hung_until_it_returns(caplog: Any) -> None:
    caplog.set_level(logging.INFO)
    # As ONNX Runtime ends a run that is abandoned.
    engine = FakeEngine(seconds_of={13: 100}, error_of={13: InternalError("terminated")})
    async with Server(engine, max_execute=30) as server:
        for name, sites in (("a", 10), ("hangs", 13)):
            server.send(name, sites=sites)
        await asyncio.sleep(1)
        server.send("behind")
        await asyncio.sleep(28)
        assert not server.answers and not server.scheduler.hung
        await asyncio.sleep(2)
        assert server.errors() == {"a": InternalError, "hangs": InternalError}
        assert server.answers["a"].at == server.answers["hangs"].at == 30
        assert server.answers["a"].error == "the run took longer than 30 s"
        assert server.scheduler.hung and engine.abandoned == [30]
        await server.scheduler.drained()
        assert not server.scheduler.hung
        assert server.ok("behind") and server.answers["behind"].at == 101
        assert engine.batches == [[10, 13], [10]]  # what hung is not tried again
        assert "one by one" not in caplog.text and "came back after 100.0 s" in caplog.text


@in_virtual_time
async def test_other_instances_go_on_beside_a_hung_run() -> None:
    engine = FakeEngine(instances=2, seconds_of={13: 100})
    async with Server(engine, max_execute=30, limits=BatchLimits(1000, 1)) as server:
        for name, sites in (("hangs", 13), ("a", 10)):
            server.send(name, sites=sites)
        await asyncio.sleep(50)
        assert server.scheduler.hung
        server.send("b")
        server.send("c")
        await server.scheduler.drained()
        assert {n: server.answers[n].at for n in "abc"} == {"a": 1, "b": 51, "c": 52}


@in_virtual_time
async def test_a_hang_of_a_frame_that_runs_again_answers_the_rest_of_its_batch() -> None:
    """They wait for the same instance, and it may never come back."""
    engine = FakeEngine(seconds=2, error_of={11: RuntimeError("boom")})
    async with Server(engine, max_execute=30) as server:
        for name, sites in (("a", 10), ("hangs", 13), ("broken", 11)):
            server.send(name, sites=sites)
        await asyncio.sleep(1)
        engine.seconds_of = {13: 100}
        await server.scheduler.drained()
        assert server.ok("a") and server.answers["a"].at == 4
        assert server.errors() == {"hangs": InternalError, "broken": InternalError}
        assert server.answers["hangs"].at == server.answers["broken"].at == 34
        assert server.scheduler.hung
        server.send("next")
        await server.scheduler.drained()
        assert server.answers["next"].at == 106
        assert engine.batches == [[10, 13, 11], [10], [13], [10]]


# Draining and closing -----------------------------------------------------------------------------


@in_virtual_time
async def test_drained_waits_for_what_waits_and_runs_and_for_nothing_else() -> None:
    async with Server(FakeEngine(seconds=4)) as server:
        await server.scheduler.drained()
        assert clock() == 0
        server.send("a")
        await asyncio.sleep(1)
        server.send("b")
        await server.scheduler.drained()
        assert clock() == 8


@in_virtual_time
async def test_the_last_frame_may_leave_by_cancel_or_by_its_deadline() -> None:
    async with Server(limits=BatchLimits(100, 10, max_delay=64)) as server:
        job = server.send("a")
        drained = asyncio.ensure_future(server.scheduler.drained())
        await asyncio.sleep(1)
        assert not drained.done()
        server.scheduler.cancel(job)
        await drained
        assert clock() == 1
    async with Server(FakeEngine(seconds=8)) as server:
        server.send("b")
        await asyncio.sleep(1)
        server.send("late", deadline=5)
        await server.scheduler.drained()
        assert (server.answers["late"].at, clock()) == (5, 9)


@in_virtual_time
async def test_a_hung_run_does_not_hold_up_a_drain() -> None:
    async with Server(FakeEngine(seconds=100), max_execute=30) as server:
        server.send("a")
        await server.scheduler.drained()
        assert clock() == 30 and server.scheduler.hung


@in_virtual_time
async def test_close_answers_what_waits_and_what_runs() -> None:
    server = Server(FakeEngine(seconds=100))
    server.scheduler.start()
    server.send("running")
    await asyncio.sleep(1)
    server.send("waiting", deadline=50)
    await server.scheduler.close()
    assert server.errors() == {"running": Draining, "waiting": Draining}
    assert clock() == 1 and server.engine.running == 0
    await server.scheduler.drained()
    with pytest.raises(Draining):
        server.send("after")
    await server.scheduler.close()
    await asyncio.sleep(200)
    assert len(server.answers) == 2


@in_virtual_time
async def test_close_between_taking_a_batch_and_running_it() -> None:
    server = Server()
    server.scheduler.start()
    server.send("a")
    await asyncio.sleep(0)  # the batch is taken, its run has not begun
    assert server.scheduler.queued_frames == 0 and not server.engine.batches
    await server.scheduler.close()
    assert server.errors() == {"a": Draining} and not server.engine.batches


@in_virtual_time
async def test_close_while_frames_run_one_by_one() -> None:
    engine = FakeEngine(seconds=2, error_of={13: RuntimeError("boom")})
    server = Server(engine)
    server.scheduler.start()
    for name, sites in (("a", 10), ("broken", 13), ("b", 11)):
        server.send(name, sites=sites)
    await asyncio.sleep(5)
    await server.scheduler.close()
    assert server.ok("a")
    assert server.errors() == {"broken": Draining, "b": Draining}


@in_virtual_time
async def test_close_without_start_and_with_a_run_that_will_not_end() -> None:
    unstarted = Server()
    unstarted.send("a")
    await unstarted.scheduler.close()
    assert unstarted.errors() == {"a": Draining}

    class Stubborn(FakeEngine):
        async def run(self, *_: Any) -> list[Execution]:
            while True:
                with contextlib.suppress(asyncio.CancelledError):
                    await forever.wait()
                    return []

    forever = asyncio.Event()
    server = Server(Stubborn())
    server.scheduler.start()
    server.send("a")
    await asyncio.sleep(4)
    await server.scheduler.close()
    assert server.errors() == {"a": Draining} and clock() < 10
    forever.set()


# Metrics ------------------------------------------------------------------------------------------


@in_virtual_time
async def test_every_run_is_observed_once() -> None:
    engine = FakeEngine(seconds=2, device="cuda:0", error_of={13: RuntimeError("boom")})
    async with Server(engine) as server:
        server.send("a", sites=10)
        server.send("broken", sites=13)
        await server.scheduler.drained()
        batch, *alone = server.observed.runs
        assert batch == (2, 23, 2, "cuda:0")
        # As long as the engine says; of a run that failed, as long as it was gone.
        assert alone == [(1, 10, 1, "cuda:0"), (1, 13, 2, "cuda:0")]
