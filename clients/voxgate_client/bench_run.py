# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Drives many streams against a server, on a schedule or as fast as it answers.

One event loop sends prepared bytes and notes times; nothing is parsed but ids and timings. What a
client costs beside the server it measures is what its streams' copies cost.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import grpc

from voxgate_client.async_client import AsyncVoxgateClient
from voxgate_client.async_frame_stream import AsyncFrameStream
from voxgate_client.messages import Answer, FrameResult, StreamOptions, Timing
from voxgate_client.packed_frame import PackedFrame

# As the server counts them.
OUTCOME_OF_CODE = {
    grpc.StatusCode.INVALID_ARGUMENT: "invalid",
    grpc.StatusCode.ALREADY_EXISTS: "invalid",
    grpc.StatusCode.NOT_FOUND: "invalid",
    grpc.StatusCode.DEADLINE_EXCEEDED: "deadline",
    grpc.StatusCode.ABORTED: "superseded",
    grpc.StatusCode.RESOURCE_EXHAUSTED: "overloaded",
    grpc.StatusCode.CANCELLED: "cancelled",
    grpc.StatusCode.UNAVAILABLE: "unavailable",
}
# What an interrupted run still waits for answers.
_PATIENCE_S = 3.0
# Different ones that are kept: some name times or ids.
_MAX_MESSAGES = 100


@dataclass(frozen=True)
class Load:
    """What is sent.

    Attributes:
        streams: how many, each a robot of its own.
        rate: frames per second and stream, on a fixed schedule; 0: each after an answer.
        frames: per stream, measured.
        warm_up: frames per stream before them, not measured.
        in_flight: frames unanswered at once per stream when `rate` is 0.
    """

    streams: int = 8
    rate: float = 0.0
    frames: int = 200
    warm_up: int = 2
    in_flight: int = 1


@dataclass(frozen=True, slots=True)
class Sample:
    """One frame that was answered; times in seconds since the run's start.

    Attributes:
        due: when the schedule wanted it sent, or when it was sent where there is no schedule.
        sent: when it was handed to the stream.
        answered: when its answer was there.
        rows: its sites or points.
        outcome: "ok", or as the server's metrics name it.
        timing: the server's stages; None without a result.
    """

    stream: int
    due: float
    sent: float
    answered: float
    rows: int
    outcome: str
    timing: Timing | None


@dataclass
class Run:
    """What happened."""

    samples: list[Sample] = field(default_factory=list)
    messages: dict[str, int] = field(default_factory=dict)
    sent: int = 0
    unanswered: int = 0
    interrupted: bool = False
    client_cpu_seconds: float = 0.0


async def run_load(
    client: AsyncVoxgateClient,
    model: str,
    options: StreamOptions,
    frames: Sequence[PackedFrame],
    load: Load,
    *,
    stop: asyncio.Event,
    progress: Callable[[], None] = lambda: None,
) -> Run:
    """Sends `load` and returns when all is answered, or soon after `stop` was set.

    Stream i begins with frame i of `frames`, and under a schedule an i-th of the period later, as
    robots are not synchronised.

    Raises:
        VoxgateRpcError: a stream could not be opened.
    """
    run = Run()
    streams = [
        await client.open_stream(model, options, parse_outputs=False) for _ in range(load.streams)
    ]
    cpu = time.process_time()
    start = time.monotonic()
    robots = [
        _Robot(number, stream, frames, load, start, run, progress)
        for number, stream in enumerate(streams)
    ]
    try:
        tasks = [asyncio.create_task(robot.work(stop)) for robot in robots]
        await asyncio.gather(*tasks)
    finally:
        run.client_cpu_seconds = time.process_time() - cpu
        run.interrupted = stop.is_set()
        run.samples.sort(key=lambda sample: sample.answered)
        for stream in streams:
            await stream.close()
    return run


class _Robot:
    """One stream: a task that sends, one that receives."""

    def __init__(
        self,
        number: int,
        stream: AsyncFrameStream,
        frames: Sequence[PackedFrame],
        load: Load,
        start: float,
        run: Run,
        progress: Callable[[], None],
    ) -> None:
        self._number = number
        self._stream = stream
        self._frames = frames
        self._load = load
        self._start = start
        self._run = run
        self._progress = progress
        self._under_way: dict[str, tuple[float, float, int]] = {}
        self._free = asyncio.Semaphore(load.in_flight)

    async def work(self, stop: asyncio.Event) -> None:
        receiving = asyncio.create_task(self._receive_all())
        sending = asyncio.create_task(self._send_all())
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait([receiving, stopping], return_when=asyncio.FIRST_COMPLETED)
            if stop.is_set() and not receiving.done():
                sending.cancel()
                await asyncio.wait([sending])
                await self._stream.close_sending()
                await asyncio.wait([receiving], timeout=_PATIENCE_S)
            if not receiving.done():
                self._run.unanswered += self._stream.num_unanswered
        finally:
            for task in (receiving, sending, stopping):
                task.cancel()
            await asyncio.wait([receiving, sending, stopping])
        for task in (receiving, sending):
            if not task.cancelled() and (error := task.exception()) is not None:
                raise error

    async def _send_all(self) -> None:
        load = self._load
        for index in range(-load.warm_up, load.frames):
            frame = self._frames[(self._number + index) % len(self._frames)]
            due = None
            if load.rate:
                ahead = (index + load.warm_up + self._number / load.streams) / load.rate
                due = self._start + ahead
                await asyncio.sleep(max(0.0, due - time.monotonic()))
            else:
                await self._free.acquire()
            sent = time.monotonic()
            frame_id = f"{self._number}.{index}" if index >= 0 else f"warm {index}"
            self._under_way[frame_id] = (sent if due is None else due, sent, frame.rows)
            self._run.sent += index >= 0
            await self._stream.send(frame, frame_id=frame_id, captured_at=datetime.now(UTC))
        await self._stream.close_sending()

    async def _receive_all(self) -> None:
        while (answer := await self._stream.receive()) is not None:
            answered = time.monotonic()
            due, sent, rows = self._under_way.pop(answer.frame_id)
            self._free.release()
            if answer.frame_id.startswith("warm"):
                continue
            outcome, timing = self._judge(answer)
            start = self._start
            sample = Sample(
                self._number, due - start, sent - start, answered - start, rows, outcome, timing
            )
            self._run.samples.append(sample)
            self._progress()

    def _judge(self, answer: Answer) -> tuple[str, Timing | None]:
        if isinstance(answer, FrameResult):
            return "ok", answer.timing
        text = f"{answer.code.name}: {answer.message}"
        if answer.code is not grpc.StatusCode.ABORTED:  # every one of them names another id
            known = self._run.messages
            if text not in known and len(known) >= _MAX_MESSAGES:
                text = f"{answer.code.name}: other messages"
            known[text] = known.get(text, 0) + 1
        return OUTCOME_OF_CODE.get(answer.code, "failed"), None
