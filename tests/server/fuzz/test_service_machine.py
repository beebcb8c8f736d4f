# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Whatever clients, engines and operators do in whatever order: one answer a frame, none too many.

Streams, models and scheduler are the real ones, in virtual time: a wait that nothing ends is an
error there, so a frame left unanswered cannot pass for a slow one.
"""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from collections.abc import Callable
from functools import cache
from typing import Any

import grpc
import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)
from tests.server.driver import frame
from tests.server.fuzz.world import (
    BROKEN,
    CODES,
    HANGING,
    HUGE,
    OUTCOME_OF,
    REFUSED,
    SLOW,
    Message,
    PlayedCall,
    World,
    outputs_named,
    use_virtual_time,
)

from voxgate_protos import voxel_inference_pb2 as pb

EXAMPLES, STEPS = 500, 50
GOOD = st.integers(0, 30)
SITES = GOOD | GOOD | st.sampled_from([REFUSED, BROKEN, SLOW, HANGING, HUGE])
# The first takes longer, or turns out bad, while the others are done.
OVERTAKING = st.sampled_from([[SLOW, 3, 4], [SLOW, 3], [HANGING, 3], [BROKEN, 3]])
# What is wrong with a frame, as fields of its payload.
FAULTS: list[dict[str, Any]] = [
    {"num_sites": 7},
    {"num_sites": 2**32 - 1},
    {"num_features": 3},
    {"features_dtype": 9},
    {"coords": b"\xff" * 60},
    {"features": b"\xff" * 40},
]
REFUSALS = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
}
SECONDS = st.sampled_from([0.0, 1 / 64, 0.25, 0.5, 1.0, 2.5, 8.0])
TURNS = st.sampled_from([0, 0, 1, 2, 5])
PEERS = st.sampled_from(["alice", "alice", "bob"])
WHICH = st.integers(0, 100)
ASYNCIO_ERRORS: list[list[dict[str, Any]]] = []  # one of each example


@cache
def payload(sites: int) -> pb.SparseVoxels:
    return frame("", sites, sites).voxels


def sweep(frame_id: str, sites: int) -> pb.Frame:
    return pb.Frame(frame_id=frame_id, voxels=payload(sites))


class Robot:
    """One stream's client: what it has sent, as far as later messages refer to it."""

    def __init__(self, call: PlayedCall, request: pb.StreamOpen) -> None:
        self.call = call
        self.unordered = request.unordered
        self.ids: list[str] = []
        self.sites: dict[str, int] = {}
        self.chunked: str | None = None  # the frame that it is sending in chunks
        self.index = 0
        self.ended = False  # hung up, or did what ends a stream
        self.half_closed = False

    def send(self, *begins: str, completes: str | None = None, **member: Any) -> None:
        raw = pb.StreamRequest(**member).SerializeToString()
        self.call.send(Message(raw, begins, completes))


class ServiceMachine(RuleBasedStateMachine):
    """Robots that come, send, cancel, go deaf and vanish; models that change; a server's end."""

    @initialize(
        decode_seconds=st.sampled_from([0.0, 1 / 64, 0.5]),
        instances=st.sampled_from([1, 2, 2]),
        max_batch_frames=st.sampled_from([1, 1, 2, 8]),
        max_queue_delay=st.sampled_from([0.0, 0.0, 0.5]),
        room=st.sampled_from([2000, 4000, 1 << 20]),
        queued=st.sampled_from([1, 3, 8]),
    )
    def begin(
        self,
        decode_seconds: float,
        instances: int,
        max_batch_frames: int,
        max_queue_delay: float,
        room: int,
        queued: int,
    ) -> None:
        self.world = World(
            decode_seconds,
            instances,
            max_batch_frames=max_batch_frames,
            max_queue_delay=max_queue_delay,
            max_client_in_flight_bytes=room,
            max_in_flight_bytes=room + room // 2,
            queued_frames=queued,
            max_model_queued_frames=6,
        )
        self.max_batch_frames = max_batch_frames
        self.robots: list[Robot] = []
        self.sent = 0

    def act(self, action: Callable[[], object], turns: int = 0) -> None:
        """Do something on the loop, and let it turn so many times."""

        async def run() -> None:
            action()
            for _ in range(turns):
                await asyncio.sleep(0)

        self.world.run(run())

    def robot(self, which: int) -> Robot | None:
        """One that still may send."""
        live = [robot for robot in self.robots if not (robot.ended or robot.half_closed)]
        return live[which % len(live)] if live else None

    def new_id(self, robot: Robot, sites: int) -> str:
        self.sent += 1
        name = f"{self.sent}"
        robot.ids.append(name)
        robot.sites[name] = sites
        return name

    @property
    def sending(self) -> bool:
        return self.robot(0) is not None

    # Streams -------------------------------------------------------------------------------------

    @precondition(lambda self: len(self.robots) < 5)
    @rule(
        peer=PEERS,
        policy=st.sampled_from([pb.FIFO, pb.FIFO, pb.LATEST]),
        max_queued=st.sampled_from([0, 1, 2, 64]),
        deadline=st.sampled_from([None, None, None, 0.0, 0.25, 1.0, 8.0]),
        priority=st.integers(-1, 3),
        unordered=st.booleans(),
        version=st.sampled_from(["", "", "", "", "1", "2"]),
        outputs=st.sampled_from([[], ["count"]]),
        frames=st.lists(SITES, max_size=3),
        turns=TURNS,
    )
    def open(
        self,
        peer: str,
        policy: pb.QueuePolicy.ValueType,
        max_queued: int,
        deadline: float | None,
        priority: int,
        unordered: bool,
        version: str,
        outputs: list[str],
        frames: list[int],
        turns: int,
    ) -> None:
        """Frames may follow without waiting for the answer."""
        request = pb.StreamOpen(
            model="m",
            version=version,
            outputs=outputs,
            policy=policy,
            max_queued_frames=max_queued,
            priority=priority,
            unordered=unordered,
        )
        if deadline is not None:
            request.frame_deadline.FromMicroseconds(round(deadline * 1e6))

        def begin() -> None:
            robot = Robot(self.world.stream(peer), request)
            self.robots.append(robot)
            robot.send(open=request)
            for sites in frames:
                name = self.new_id(robot, sites)
                robot.send(name, completes=name, frame=sweep(name, sites))

        self.act(begin, turns)

    @precondition(lambda self: self.sending)
    @rule(which=WHICH, frames=st.lists(SITES, min_size=1, max_size=6) | OVERTAKING, turns=TURNS)
    def send(self, which: int, frames: list[int], turns: int) -> None:
        robot = self.robot(which)
        assert robot is not None

        def begin() -> None:
            for sites in frames:
                name = self.new_id(robot, sites)
                robot.send(name, completes=name, frame=sweep(name, sites))

        self.act(begin, turns)

    @precondition(lambda self: self.sending)
    @rule(which=WHICH, fault=st.sampled_from(FAULTS), turns=TURNS)
    def send_bad(self, which: int, fault: dict[str, Any], turns: int) -> None:
        robot = self.robot(which)
        assert robot is not None
        name = self.new_id(robot, -1)
        bad = frame(name, 5, 5, **fault)
        self.act(lambda: robot.send(name, completes=name, frame=bad), turns)

    @precondition(lambda self: self.sending)
    @rule(which=WHICH, old=WHICH, turns=TURNS)
    def send_again(self, which: int, old: int, turns: int) -> None:
        """An id that was used before, and may be unanswered."""
        robot = self.robot(which)
        assert robot is not None
        if robot.ids:
            name = robot.ids[-1 - old % min(3, len(robot.ids))]
            robot.sites[name] = max(0, robot.sites[name])
            again = sweep(name, robot.sites[name])
            if name != robot.chunked:  # its late chunks would be taken for this one's
                self.act(lambda: robot.send(name, completes=name, frame=again), turns)

    @precondition(lambda self: self.sending)
    @rule(which=WHICH, raw=st.sampled_from([b"", b"\x0a", b"\xff" * 30, b"\x22\x01\xff"]))
    def send_rubbish(self, which: int, raw: bytes) -> None:
        robot = self.robot(which)
        assert robot is not None
        self.act(lambda: robot.call.send(Message(raw, ("",))))

    @precondition(lambda self: self.sending)
    @rule(
        which=WHICH,
        sites=st.sampled_from([0, 4, 10, 10]),
        how=st.sampled_from(["more", "more", "more", "last", "last", "skip", "bad", "new"]),
        turns=TURNS,
    )
    def send_chunk(self, which: int, sites: int, how: str, turns: int) -> None:
        """The next piece of the frame that is being sent so, or the first of another one."""
        robot = self.robot(which)
        assert robot is not None
        self.act(lambda: self.chunk(robot, sites, how), turns)

    @precondition(lambda self: self.sending)
    @rule(which=WHICH, hows=st.lists(st.sampled_from(["more"] * 8 + ["skip", "bad"]), max_size=4))
    def send_chunked(self, which: int, hows: list[str]) -> None:
        """A frame in chunks, from its first to its last."""
        robot = self.robot(which)
        assert robot is not None

        def begin() -> None:
            robot.chunked = None
            for how in (*hows, "last"):
                self.chunk(robot, 4, how)

        self.act(begin)

    def chunk(self, robot: Robot, sites: int, how: str) -> None:
        begins: tuple[str, ...] = ()
        if robot.chunked is None or how == "new":
            robot.chunked = self.new_id(robot, 0)
            robot.index = 0
            begins = (robot.chunked,)
        name, last = robot.chunked, how == "last"
        part = pb.Frame(frame_id=name, voxels=payload(24))
        # The parts of one frame have no site in common, as far as there are any left.
        first = min(24, robot.index * 4)
        rows = min(24, first + min(sites, 4)) - first
        for array, width in (("coords", 12), ("features", 8)):
            data = getattr(part.voxels, array)[first * width : (first + rows) * width]
            setattr(part.voxels, array, data)
        part.voxels.num_sites = rows + (how == "bad")
        robot.sites[name] += rows
        robot.index += how == "skip"
        chunk = pb.FrameChunk(part=part, index=robot.index, last=last)
        robot.index += 1
        if last:
            robot.chunked = None
        robot.send(*begins, completes=name if last else None, chunk=chunk)

    @precondition(lambda self: self.sending)
    @rule(which=WHICH, old=st.integers(0, 4), turns=TURNS)
    def cancel(self, which: int, old: int, turns: int) -> None:
        robot = self.robot(which)
        assert robot is not None
        name = robot.ids[-1 - old] if old < len(robot.ids) else "nothing"
        self.act(lambda: robot.send(cancel_frame_id=name), turns)

    @precondition(lambda self: any(not robot.ended for robot in self.robots))
    @rule(
        which=WHICH,
        how=st.sampled_from(["half-close", "hang up"] * 2 + ["lose the connection", "open again"]),
        delay=SECONDS,
        turns=TURNS,
    )
    def leave(self, which: int, how: str, delay: float, turns: int) -> None:
        self.world.run(asyncio.sleep(delay))
        live = [robot for robot in self.robots if not robot.ended]
        robot = live[which % len(live)]
        task = robot.call.task
        assert task is not None
        if how == "half-close":
            robot.half_closed = True
            self.act(lambda: robot.call.change(sent_eof=True), turns)
            return
        robot.ended = True
        if how == "hang up":
            self.act(task.cancel, turns)
        elif how == "lose the connection":
            self.act(lambda: robot.call.change(broken=True), turns)
        else:
            self.act(lambda: robot.send(open=pb.StreamOpen(model="m")), turns)

    @precondition(lambda self: self.robots)
    @rule(which=WHICH, listening=st.booleans(), seconds=st.sampled_from([0.0, 0.0, 0.25, 4.0]))
    def listen(self, which: int, listening: bool, seconds: float) -> None:
        """A client that reads its answers slowly, or not at all for a while."""
        call = self.robots[which % len(self.robots)].call
        self.act(lambda: call.change(listening=listening, write_seconds=seconds))

    @rule(
        peer=PEERS, sites=SITES, patience=st.none() | SECONDS, hangs_up=st.booleans(), turns=TURNS
    )
    def infer(
        self, peer: str, sites: int, patience: float | None, hangs_up: bool, turns: int
    ) -> None:
        request = pb.InferRequest(model="m", frame=sweep("unary", sites))
        self.act(lambda: self.world.infer(peer, request, patience), turns)
        task = self.world.unary[-1].task
        if hangs_up and task is not None:
            self.act(task.cancel)

    # The server ----------------------------------------------------------------------------------

    @rule(seconds=SECONDS)
    def wait(self, seconds: float) -> None:
        self.world.run(asyncio.sleep(seconds))

    @rule(
        version=st.integers(1, 2),
        what=st.sampled_from(["load"] * 8 + ["unload", "features", "outputs"]),
        turns=TURNS,
    )
    def change_models(self, version: int, what: str, turns: int) -> None:
        """A version that is new, or replaces its like, and may take or give something else."""
        fields: dict[str, Any] = {}
        if what == "features":
            fields["features"] = 3
        elif what == "outputs":
            fields["outputs"] = outputs_named("other")
        if what == "unload":
            self.act(lambda: self.world.folder.unload(version), turns)
        else:
            self.world.run(self.world.load(version, **fields))

    @precondition(lambda self: self.world.draining is None and self.sent > 8)
    @rule(timeout=st.sampled_from([None] * 6 + [0.0, 1.0, 10.0, 100.0]), turns=TURNS)
    def drain(self, timeout: float | None, turns: int) -> None:
        if timeout is None:
            return  # more often it would end what is to be seen

        def begin() -> None:
            drain = self.world.service.drain(timeout)
            self.world.draining = self.world.loop.create_task(drain)

        self.act(begin, turns)

    # What must hold ------------------------------------------------------------------------------

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        world = self.world
        world.finish()
        assert not world.complaints.messages, world.complaints.messages
        assert not world.asyncio_errors, world.asyncio_errors
        ASYNCIO_ERRORS.append(world.asyncio_errors)
        for engine in world.folder.engines:
            assert engine.most_running <= engine.instances and engine.running == 0
            assert all(len(sizes) <= self.max_batch_frames for sizes in engine.batches)
        for robot in self.robots:
            self.check_stream(robot)
        self.check_counts()

    def check_stream(self, robot: Robot) -> None:
        call = robot.call
        answers = call.answers()
        assert answers <= call.begun, "answers to nothing, or twice"
        if not robot.ended and call.code is grpc.StatusCode.OK:
            assert answers == call.begun, "frames without an answer"
        elif not robot.ended:  # no such model or output, too many streams, or stopping
            stopping = call.code is grpc.StatusCode.UNAVAILABLE and self.world.draining is not None
            assert (call.code in REFUSALS or stopping) and not call.begun
        results = call.results()
        for result in results:
            (count,) = result.outputs
            assert int.from_bytes(count.data, "little") == robot.sites[result.frame_id]
        if not robot.unordered:
            completed = iter(call.completed)
            assert all(result.frame_id in completed for result in results), "results out of order"
        if self.world.draining is None:
            codes = {CODES[error.code] for error in call.errors()}
            assert grpc.StatusCode.UNAVAILABLE not in codes, "a frame was lost in a swap"

    def check_counts(self) -> None:
        """Each frame is counted once received and once ended, as its client was told."""
        world = self.world
        outcomes = {
            key[0]: value for key, value in world.samples("voxgate_frames_total", "outcome").items()
        }
        received = sum(world.samples("voxgate_frames_received_total", "model").values())
        assert received == sum(outcomes.values())
        for gauge in ("frames_in_flight", "active_streams", "queued_frames"):
            assert not world.samples(f"voxgate_{gauge}", "version"), gauge
        told: Counter[str] = Counter()
        for robot in self.robots:
            told["ok"] += len(robot.call.results())
            told.update(OUTCOME_OF[CODES[error.code]] for error in robot.call.errors())
        for call in world.unary:
            if call.code is not None:
                told["ok" if call.code is grpc.StatusCode.OK else OUTCOME_OF[call.code]] += 1
        hung_up = outcomes.pop("cancelled", 0) - told.pop("cancelled", 0)
        assert outcomes == {outcome: n for outcome, n in told.items() if n}
        assert hung_up >= 0
        if not any(robot.ended for robot in self.robots):
            assert hung_up == sum(call.code is None for call in world.unary)


def test_any_interleaving_answers_every_frame_once(monkeypatch: pytest.MonkeyPatch) -> None:
    use_virtual_time(monkeypatch)
    ASYNCIO_ERRORS.clear()
    run_state_machine_as_test(
        ServiceMachine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            derandomize=True,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
    gc.collect()  # what nobody looked at is reported when it goes
    assert not any(ASYNCIO_ERRORS), ASYNCIO_ERRORS


def test_a_frame_that_begins_just_as_a_drained_stream_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Found by the machine: the end of one frame made the room in which another one was read."""
    use_virtual_time(monkeypatch)
    machine = ServiceMachine()
    machine.begin(
        decode_seconds=0.0,
        instances=1,
        max_batch_frames=1,
        max_queue_delay=0.0,
        room=2000,
        queued=1,
    )
    opened: dict[str, Any] = {"peer": "alice", "policy": pb.FIFO, "max_queued": 0, "version": ""}
    opened |= {"deadline": None, "priority": 0, "unordered": False, "outputs": [], "turns": 0}
    machine.open(frames=[0, 0], **opened)
    machine.send_bad(which=0, fault={"num_sites": 7}, turns=0)
    machine.send_chunk(which=0, sites=0, how="more", turns=0)
    machine.send_chunk(which=0, sites=0, how="more", turns=0)
    machine.drain(timeout=1.0, turns=0)
    machine.send_chunked(which=0, hows=["more", "more"])
    machine.teardown()
