# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""A frame's way through one loaded model: decode, queue, execute, encode, each stage timed."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from voxgate_protos import voxel_inference_pb2 as pb
from voxgate_server.codec import (
    OutputSpec,
    Payload,
    ReadPart,
    assemble,
    decode,
    encode,
    frame_outputs,
    read_part,
)
from voxgate_server.engine import Engine, Execution
from voxgate_server.errors import InternalError, ModelLimitExceeded, Outcome, RequestError
from voxgate_server.metrics import FrameCount, ModelMetrics, Stage
from voxgate_server.repository import Model
from voxgate_server.scheduler import Job, Scheduler, StreamQueue
from voxgate_server.security import Client
from voxgate_server.streams import Arrival
from voxgate_server.telemetry import FrameSpans

if TYPE_CHECKING:
    from opentelemetry.context import Context

# Up to this size frames are decoded and answers encoded on the event loop: waking a worker would
# cost more.
_INLINE_DECODE_BYTES = 1 << 15
# And while the model has nothing to do, up to a sweep: two changes of thread would be 0.7 ms of its
# answer, and the 2 ms for which the loop is held up keep no engine waiting.
_IDLE_INLINE_DECODE_BYTES = 1 << 20
_INLINE_ENCODE_BYTES = 1 << 19
# Protobuf parses no message of 2 GiB or more: its reader would lose the stream, not the frame. What
# is left below that is for everything beside the arrays.
_MAX_ANSWER_BYTES = (1 << 31) - (1 << 20)
# Queues of clients that have no call waiting are kept up to this number, for their turns.
_MAX_IDLE_QUEUES = 1024

T = TypeVar("T")

log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Ticket:
    """A frame from its arrival to its answer.

    `job` is there while the frame waits or runs. `stages` holds, as far as the frame got, when each
    began (monotonic) and the seconds it took.
    """

    arrival: Arrival
    count: FrameCount
    served: ServedModel
    job: Job | None = None
    stages: dict[Stage, tuple[float, float]] = field(default_factory=dict)
    sites: int | None = None
    batch_frames: int = 0
    batch_sites: int = 0


class ServedModel:
    """One loaded version with its scheduler, its metrics and the threads that decode and encode."""

    def __init__(
        self,
        model: Model,
        engine: Engine,
        scheduler: Scheduler,
        metrics: ModelMetrics,
        workers: Executor,
        max_waiting: int,
    ) -> None:
        self.model = model
        self.engine = engine
        self.scheduler = scheduler
        self.metrics = metrics
        self.retired = False
        self._workers = workers
        self._max_waiting = max_waiting
        self._unary_queues: dict[tuple[str, int], StreamQueue] = {}
        self._users = 0
        self._unused = asyncio.Event()
        self._unused.set()

    # Frames in hand ------------------------------------------------------------------------------

    def admit(self, arrival: Arrival) -> Ticket:
        """Count a frame that has arrived; `leave` when it is answered."""
        self.keep()
        return Ticket(arrival, self.metrics.frame_received(), self)

    def leave(self, ticket: Ticket) -> None:
        assert ticket.served is self
        # A job leads back to its ticket: its arrays would wait for the garbage collector.
        ticket.job = None
        self.let_go()

    def keep(self) -> None:
        """Let the version stay until `let_go`: a frame for it is arriving."""
        self._users += 1
        self._unused.clear()

    def let_go(self) -> None:
        self._users -= 1
        if not self._users:
            self._unused.set()

    async def wait_until_unused(self) -> None:
        """Wait until every frame in hand is answered and none is arriving."""
        await self._unused.wait()

    def unary_queue(self, client: Client) -> StreamQueue:
        """Where a client's calls of `Infer` wait: together they take turns as one stream."""
        queues, priority = self._unary_queues, client.clip_priority(0)
        key = client.key, priority
        if key not in queues:
            if len(queues) >= _MAX_IDLE_QUEUES:
                for idle in [other for other, queue in queues.items() if not queue.waiting]:
                    del queues[idle]
            queues[key] = StreamQueue(self._max_waiting, priority=priority, client=client.key)
        return queues[key]

    # Decode and queue ----------------------------------------------------------------------------

    def begin_read(self, part: Payload) -> asyncio.Future[ReadPart]:
        """Check a chunk while its frame is still arriving."""
        work = _guarded(self._workers, read_part, part, self.engine.frame_spec)
        return asyncio.ensure_future(work)

    async def enqueue(
        self,
        ticket: Ticket,
        outputs: Sequence[OutputSpec],
        queue: StreamQueue,
        resolve: Callable[[Execution | RequestError], None],
        deadline: float = math.inf,
    ) -> None:
        """Decode the ticket's frame and let it wait; `resolve` gets what the scheduler makes of it.

        Where the arrival has `reads`, they are what `begin_read` gave for each of its parts.

        Raises:
            RequestError: the frame was refused; `resolve` is not called.
        """
        started = time.monotonic()
        arrival, spec = ticket.arrival, self.engine.frame_spec
        limit = _IDLE_INLINE_DECODE_BYTES if self.scheduler.idle else _INLINE_DECODE_BYTES
        small = sum(part.nbytes for part in arrival.parts) <= limit
        workers = None if small else self._workers
        if arrival.reads:
            parts = await asyncio.gather(*arrival.reads)
            frame = await _guarded(workers, assemble, parts, spec)
        else:
            frame = await _guarded(workers, decode, arrival.parts, spec)
        ticket.stages["receive"] = arrival.first_at, arrival.last_at - arrival.first_at
        ticket.stages["decode"] = started, time.monotonic() - started
        # The arrays hold what is needed of the message from here on.
        arrival.parts.clear()
        self.metrics.add_rows(spec.rows, frame.num_sites)
        ticket.sites = frame.num_sites
        ticket.job = Job(arrival.frame_id, frame, outputs, queue, resolve, deadline)
        self.scheduler.submit(ticket.job)

    # Encode --------------------------------------------------------------------------------------

    async def respond(self, ticket: Ticket, execution: Execution, *, in_stream: bool) -> bytes:
        """The serialized answer to an executed frame; observes its stages.

        Raises:
            ModelLimitExceeded: outputs that no message can carry.
            InternalError: an output that is not what the model's metadata says.
        """
        job, ticket.job = ticket.job, None
        assert job is not None
        size = sum(array.nbytes for array in execution.outputs.values())
        if size > _MAX_ANSWER_BYTES:
            raise ModelLimitExceeded(f"answer: {size} bytes, the limit is {_MAX_ANSWER_BYTES}")
        workers = self._workers if size > _INLINE_ENCODE_BYTES else None
        return await _guarded(workers, self._encode, ticket, job, execution, in_stream)

    def _encode(self, ticket: Ticket, job: Job, execution: Execution, in_stream: bool) -> bytes:
        arrival, stages = ticket.arrival, ticket.stages
        started = time.monotonic()
        arrays = frame_outputs(execution.outputs, job.outputs, job.frame.rank)
        now = time.monotonic()
        stages["queue"] = job.queued_at, job.started_at - job.queued_at
        stages["execute"] = job.started_at, execution.seconds
        stages["encode"] = started, now - started
        stages["total"] = arrival.last_at, now - arrival.last_at
        ticket.batch_frames = execution.batch_frames
        ticket.batch_sites = execution.batch_sites
        timing = pb.Timing(
            **{f"{stage}_us": round(seconds * 1e6) for stage, (_, seconds) in stages.items()},
            batch_frames=execution.batch_frames,
            batch_sites=execution.batch_sites,
        )
        response = pb.InferResponse(
            frame_id=arrival.frame_id,
            model=self.model.name,
            version=str(self.model.version),
            timing=timing,
            sensor_id=arrival.sensor_id,
        )
        raw = encode(response, job.outputs, arrays, in_stream=in_stream)
        finished = time.monotonic()
        stages["encode"] = started, finished - started
        stages["total"] = arrival.last_at, finished - arrival.last_at
        for stage, (_, seconds) in stages.items():
            self.metrics.observe(stage, seconds)
        return raw


def record_span(
    spans: FrameSpans, ticket: Ticket, outcome: Outcome, parent: Context | None
) -> None:
    """The trace of an answered frame."""
    model, arrival = ticket.served.model, ticket.arrival
    # In one step: a worker may be encoding the answer of a frame whose client has hung up.
    stages = list(ticket.stages.items())
    spans.record(
        frame=arrival.frame_id,
        stages=[(name, *times) for name, times in stages if name != "total"],
        attributes={
            "model": model.name,
            "version": model.version,
            "sensor_id": arrival.sensor_id,
            "sites": ticket.sites,
            "batch_frames": ticket.batch_frames,
            "batch_sites": ticket.batch_sites,
            "outcome": outcome,
        },
        parent=parent,
    )


async def _guarded(workers: Executor | None, work: Callable[..., T], *args: object) -> T:
    """Run `work` in a worker, or here; whatever it breaks on, the frame gets an answer."""
    try:
        if workers is None:
            return work(*args)
        return await asyncio.get_running_loop().run_in_executor(workers, work, *args)
    except RequestError:
        raise
    except Exception as error:
        log.exception("%s failed", getattr(work, "__name__", "work"))
        raise InternalError(f"{type(error).__name__}: {error}") from error
