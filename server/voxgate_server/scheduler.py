# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Waiting frames of one model: bounded queues and deadlines (pure), and the loop that runs them.

Frames run one at a time, oldest first.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from voxgate_server.codec import DecodedFrame, OutputSpec
from voxgate_server.engine import Engine, Execution
from voxgate_server.errors import (
    DeadlineExceeded,
    InternalError,
    Overloaded,
    RequestError,
    Superseded,
)

log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class StreamQueue:
    """How many frames one client stream may have waiting, and what a further one does."""

    max_waiting: int
    latest: bool = False
    waiting: list[Job] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Job:
    """A checked frame on its way through the scheduler. Times are monotonic seconds."""

    frame_id: str
    frame: DecodedFrame
    outputs: Sequence[OutputSpec]
    stream: StreamQueue
    resolve: Callable[[Execution | RequestError], None]
    deadline: float = math.inf
    queued_at: float = 0.0
    started_at: float = 0.0


class FrameQueue:
    """The waiting frames of all streams of one model, oldest first. Pure: now is an argument."""

    def __init__(self, max_waiting: int) -> None:
        self._max_waiting = max_waiting
        self._jobs: deque[Job] = deque()

    def __len__(self) -> int:
        return len(self._jobs)

    def put(self, job: Job, now: float) -> Job | None:
        """Let `job` wait; gives the older one of its stream that it replaces, if it does.

        Raises:
            Overloaded: the stream's queue or the model's is full.
        """
        stream = job.stream
        replaced = stream.waiting[0] if stream.latest and stream.waiting else None
        if replaced is not None:
            self.remove(replaced)
        elif len(stream.waiting) >= stream.max_waiting:
            raise Overloaded(f"queue: {stream.max_waiting} frames of this stream are waiting")
        elif len(self._jobs) >= self._max_waiting:
            raise Overloaded(f"queue: {self._max_waiting} frames of this model are waiting")
        job.queued_at = now
        stream.waiting.append(job)
        self._jobs.append(job)
        return replaced

    def remove(self, job: Job) -> bool:
        """Take back a waiting frame; False: it does not wait."""
        if job not in job.stream.waiting:
            return False
        job.stream.waiting.remove(job)
        self._jobs.remove(job)
        return True

    def take(self, now: float) -> tuple[list[Job], Job | None]:
        """The frames whose deadline has passed, and the next one to run."""
        late: list[Job] = []
        while self._jobs:
            job = self._jobs.popleft()
            job.stream.waiting.remove(job)
            if now < job.deadline:
                job.started_at = now
                return late, job
            late.append(job)
        return late, None


class Scheduler:
    """Feeds one engine from its queue until closed."""

    def __init__(
        self, engine: Engine, max_waiting: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._engine = engine
        self._queue = FrameQueue(max_waiting)
        self._clock = clock
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._serve())

    async def close(self) -> None:
        """Stop. The caller has seen to it that no frame waits."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    def submit(self, job: Job) -> None:
        """Queue a frame; `job.resolve` gets its execution or its error, once, on the event loop.

        Raises:
            Overloaded: a queue is full; `job.resolve` is not called.
        """
        replaced = self._queue.put(job, self._clock())
        if replaced is not None:
            _resolve(replaced, Superseded(f"superseded by {job.frame_id}"))
        self._wake.set()

    def cancel(self, job: Job) -> bool:
        """Forget a waiting frame without resolving it; False: it is running or done."""
        return self._queue.remove(job)

    async def _serve(self) -> None:
        while True:
            await self._wake.wait()
            late, job = self._queue.take(self._clock())
            for missed in late:
                _resolve(missed, DeadlineExceeded(_too_late(missed, self._clock())))
            if job is None:
                self._wake.clear()
                continue
            _resolve(job, await self._execute(job))

    async def _execute(self, job: Job) -> Execution | RequestError:
        try:
            return await self._engine.run(job.frame, job.outputs)
        except RequestError as error:
            return error
        except Exception as error:  # the loop must outlive whatever one frame does to it
            log.exception("frame %r failed in the engine", job.frame_id)
            return InternalError(f"{type(error).__name__}: {error}")


def _resolve(job: Job, outcome: Execution | RequestError) -> None:
    try:
        job.resolve(outcome)
    except Exception:  # one stream's mistake must not stop the others' frames
        log.exception("frame %r could not be answered", job.frame_id)


def _too_late(job: Job, now: float) -> str:
    waited, over = (now - job.queued_at) * 1e3, (now - job.deadline) * 1e3
    return f"deadline: passed {over:.1f} ms ago, after {waited:.1f} ms in the queue"
