# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Keeps the instances of one model's engine busy with batches of the frames that wait for it.

The async shell around `FrameQueue`: it owns the clock, the timers and the runs, and sees to it that
every frame submitted gets one outcome. All of it lives on one event loop.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeAlias

from voxgate_server import frame_queue
from voxgate_server.codec import DecodedFrame, OutputSpec
from voxgate_server.engine import Execution
from voxgate_server.errors import (
    DeadlineExceeded,
    Draining,
    InternalError,
    Overloaded,
    RequestError,
    Superseded,
)
from voxgate_server.frame_queue import BatchLimits, FrameQueue, StreamQueue

__all__ = ["BatchEngine", "BatchLimits", "BatchObserver", "Job", "Scheduler", "StreamQueue"]

log = logging.getLogger(__name__)

# For runs to notice that they are over; one that hangs must not hold up the rest of a shutdown.
_CLOSE_GRACE = 1.0

_CROWDED = (
    "queue: {} frames of this model are waiting, its limit, and a newer one of a client with fewer "
    "of them, or of a higher priority, took this one's place: "
    "send fewer, or try again later"
)

Job: TypeAlias = frame_queue.Job[Execution]


class BatchEngine(Protocol):
    """What the scheduler asks of an engine."""

    @property
    def outputs(self) -> Mapping[str, OutputSpec]:
        """In the graph's order."""

    @property
    def instances(self) -> int:
        """How many runs it can have at once."""

    @property
    def batchable(self) -> bool: ...

    @property
    def device(self) -> str: ...

    async def run(
        self, frames: Sequence[DecodedFrame], outputs: Sequence[OutputSpec]
    ) -> list[Execution]:
        """One execution a frame, in their order. A cancelled call abandons the run."""

    def abandon(self, task: asyncio.Task[None], /) -> None:
        """End the run that `task` awaits as soon as possible; `task` is resumed when it has."""


class BatchObserver(Protocol):
    """The part of `ModelMetrics` that counts runs."""

    def observe_batch(self, frames: int, sites: int, seconds: float, device: str) -> None: ...


@dataclass(slots=True, eq=False)
class _Run:
    """An engine run that has not come back, and the batch whose frames wait for the instance."""

    batch: Sequence[Job]
    task: asyncio.Task[None]
    hung: bool = False


class Scheduler:
    """Feeds one engine until closed.

    Args:
        max_waiting: how many frames of all streams may wait.
        max_execute: seconds after which a run counts as hung and its frames are answered.
        clock: monotonic seconds, as deadlines of jobs are given in.
    """

    def __init__(
        self,
        engine: BatchEngine,
        limits: BatchLimits,
        max_waiting: int,
        *,
        max_execute: float,
        metrics: BatchObserver,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        limits = limits if engine.batchable else replace(limits, max_frames=1)
        self._queue: FrameQueue[Execution] = FrameQueue(limits, max_waiting)
        self._max_waiting = max_waiting
        self._max_execute = max_execute
        self._metrics = metrics
        self._clock = clock
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False
        self._dispatch_due = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf
        self._executing: set[Job] = set()  # taken and not answered
        self._busy = 0  # instances that have a worker
        self._workers: set[asyncio.Task[None]] = set()
        self._runs: set[_Run] = set()
        self._quiet = asyncio.Event()
        self._quiet.set()

    @property
    def queued_frames(self) -> int:
        """How many frames wait."""
        return len(self._queue)

    @property
    def idle(self) -> bool:
        """No frame waits and none runs."""
        return not self._queue and not self._executing

    @property
    def hung(self) -> bool:
        """Some run has passed `max_execute` and still not come back."""
        return any(run.hung for run in self._runs)

    def start(self) -> None:
        """Begin to run what has been and will be submitted. Called on the event loop."""
        self._loop = asyncio.get_running_loop()
        self._dispatch_soon()

    async def close(self) -> None:
        """Stop. Every frame that waits or runs is answered with Draining at once."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        stopped = Draining("the model stopped before this frame was done: send it again")
        for job in self._queue.clear():
            self._resolve(job, stopped)
        for job in list(self._executing):
            self._answer(job, stopped)
        for worker in self._workers:
            worker.cancel()
        if self._workers:
            await asyncio.wait(self._workers, timeout=_CLOSE_GRACE)

    async def drained(self) -> None:
        """Wait until every frame submitted has its outcome. A hung run's frames have theirs."""
        while not self.idle:
            await self._quiet.wait()

    def submit(self, job: Job) -> None:
        """Queue a frame; `job.resolve` gets its execution or its error, once, on the event loop.

        Raises:
            Overloaded: a queue is full; `job.resolve` is not called.
            Draining: the scheduler is closed; `job.resolve` is not called.
        """
        if self._closed:
            raise Draining("the model has stopped: send the frame again")
        now = self._clock()
        self._expire(now)  # late frames take no one's place
        gives_way = self._queue.make_room(job.stream)
        replaced = self._queue.put(job, now)
        self._quiet.clear()
        self._dispatch_soon()
        if gives_way is not None:
            self._resolve(gives_way, Overloaded(_CROWDED.format(self._max_waiting)))
        if replaced is not None:
            self._resolve(replaced, Superseded(f"superseded by {job.frame_id}"))

    def cancel(self, job: Job) -> bool:
        """Forget a waiting frame without resolving it; False: it is running or done."""
        removed = self._queue.remove(job)
        self._note_quiet()
        return removed

    # Choosing -----------------------------------------------------------------------------------

    def _dispatch_soon(self) -> None:
        """Dispatch after what is ready on the loop: frames that come together go together."""
        if self._loop is not None and not self._dispatch_due:
            self._dispatch_due = True
            self._loop.call_soon(self._dispatch)

    def _dispatch(self) -> None:
        """Give every free instance a batch, as far as there are batches."""
        self._dispatch_due = False
        if self._closed:
            return
        self._expire(self._clock())
        while self._busy < self._engine.instances and (batch := self._next_batch()):
            self._busy += 1
            worker = asyncio.create_task(self._work(batch))
            self._workers.add(worker)
            worker.add_done_callback(self._workers.discard)
        self._arm_timer()

    def _next_batch(self) -> list[Job]:
        now = self._clock()
        self._expire(now)
        batch = self._queue.take(now)
        self._executing.update(batch)
        return batch

    def _expire(self, now: float) -> None:
        for job in self._queue.expire(now):
            self._resolve(job, DeadlineExceeded(_too_late(job, now)))

    def _arm_timer(self) -> None:
        """See to it that a dispatch comes when the queue needs one; an early one does no harm."""
        assert self._loop is not None
        wake_at = self._queue.wake_at(engine_free=self._busy < self._engine.instances)
        if wake_at >= self._timer_at:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = wake_at
        self._timer = self._loop.call_later(max(0.0, wake_at - self._clock()), self._on_timer)

    def _on_timer(self) -> None:
        self._timer, self._timer_at = None, math.inf
        self._dispatch()

    # Running ------------------------------------------------------------------------------------

    async def _work(self, batch: list[Job]) -> None:
        """Run batch after batch on one instance, as long as one is ready when the last is done."""
        try:
            while batch:
                await self._run_batch(batch)
                batch = self._next_batch()
        finally:
            self._busy -= 1
            for job in batch:  # only if something here broke: every frame gets an answer
                self._answer(job, InternalError("the server failed while this frame ran"))
            self._dispatch_soon()

    async def _run_batch(self, batch: Sequence[Job]) -> None:
        """Run and answer a batch; if it fails, frame by frame, so that only the culprit fails.

        Deadlines say no more here: these frames have started.
        """
        failure = await self._run(batch, batch)
        if failure is None or not self._executing.intersection(batch):
            return
        if len(batch) == 1:
            self._answer(batch[0], failure)
            return
        log.info("a batch of %d frames failed, they run one by one: %s", len(batch), failure)
        for job in batch:
            if job in self._executing:
                failure = await self._run([job], batch)
                if failure is not None:
                    self._answer(job, failure)

    async def _run(self, jobs: Sequence[Job], batch: Sequence[Job]) -> RequestError | None:
        """Run `jobs` of `batch` and answer them with their executions, or give why that failed."""
        task = asyncio.current_task()
        assert task is not None and self._loop is not None
        run = _Run(batch, task)
        self._runs.add(run)
        watchdog = self._loop.call_later(self._max_execute, self._give_up, run)
        started = self._clock()
        failure: RequestError | None = None
        executions: list[Execution] = []
        try:
            frames = [job.frame for job in jobs]
            executions = await self._engine.run(frames, self._outputs_of(jobs))
            if len(executions) != len(jobs):
                raise InternalError(f"{len(jobs)} frames ran, {len(executions)} came back")
        except RequestError as error:
            failure = error.with_traceback(None)  # it would keep the frames' arrays alive
        except Exception as error:  # the loop must outlive whatever one frame does to it
            log.exception("a run of %s failed in the engine", _named(jobs))
            failure = InternalError(f"{type(error).__name__}: {error}")
        finally:
            watchdog.cancel()
            self._runs.discard(run)
        seconds = self._clock() - started
        if run.hung:
            log.warning("the run of %s came back after %.1f s", _named(jobs), seconds)
        if failure is None:
            seconds = executions[0].seconds
            for job, execution in zip(jobs, executions, strict=True):
                self._answer(job, _narrowed(execution, job.outputs))
        sites = sum(job.sites for job in jobs)
        self._metrics.observe_batch(len(jobs), sites, seconds, self._engine.device)
        return failure

    def _outputs_of(self, jobs: Sequence[Job]) -> list[OutputSpec]:
        """What any of the jobs asks for, in the graph's order."""
        names = {spec.name for job in jobs for spec in job.outputs}
        return [spec for name, spec in self._engine.outputs.items() if name in names]

    def _give_up(self, run: _Run) -> None:
        run.hung = True
        left = [job for job in run.batch if job in self._executing]
        log.error("a run has taken %g s, it is given up: %s", self._max_execute, _named(left))
        for job in left:
            self._answer(job, InternalError(f"the run took longer than {self._max_execute:g} s"))
        self._engine.abandon(run.task)

    # Answering ----------------------------------------------------------------------------------

    def _answer(self, job: Job, outcome: Execution | RequestError) -> None:
        """Resolve a frame that was taken, unless it has its outcome."""
        if job in self._executing:
            self._executing.discard(job)
            self._resolve(job, outcome)

    def _resolve(self, job: Job, outcome: Execution | RequestError) -> None:
        try:
            job.resolve(outcome)
        except Exception:  # one stream's mistake must not stop the others' frames
            log.exception("frame %r could not be answered", job.frame_id)
        self._note_quiet()

    def _note_quiet(self) -> None:
        if self.idle:
            self._quiet.set()


def _narrowed(execution: Execution, outputs: Sequence[OutputSpec]) -> Execution:
    """The execution without what only its neighbours in the batch asked for."""
    names = {name for spec in outputs for name in (spec.name, spec.frame)}
    if names.issuperset(execution.outputs):
        return execution
    kept = {name: array for name, array in execution.outputs.items() if name in names}
    return replace(execution, outputs=kept)


def _named(jobs: Sequence[Job]) -> str:
    return f"frames {', '.join(repr(job.frame_id) for job in jobs)}"


def _too_late(job: Job, now: float) -> str:
    waited, over = (now - job.queued_at) * 1e3, (now - job.deadline) * 1e3
    return f"deadline: passed {over:.1f} ms ago, after {waited:.1f} ms in the queue"
