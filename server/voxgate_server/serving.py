# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""A frame's way through one loaded model: decode, queue, execute, encode, each stage timed."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import TypeVar

from voxgate_protos import voxel_inference_pb2 as pb
from voxgate_server.codec import OutputSpec, decode, encode, frame_outputs
from voxgate_server.engine import Engine, Execution
from voxgate_server.errors import InternalError, ModelLimitExceeded, RequestError
from voxgate_server.metrics import FrameCount, ModelMetrics
from voxgate_server.repository import Model
from voxgate_server.scheduler import Job, Scheduler, StreamQueue
from voxgate_server.streams import Arrival

# Outputs up to this size are encoded on the event loop: waking a worker would cost more.
_INLINE_BYTES = 1 << 19
# Protobuf parses no message of 2 GiB or more: its reader would lose the stream, not the frame. What
# is left below that is for everything beside the arrays.
_MAX_ANSWER_BYTES = (1 << 31) - (1 << 20)

T = TypeVar("T")

log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Ticket:
    """A frame from its arrival to its answer."""

    arrival: Arrival
    count: FrameCount
    decode_seconds: float = 0.0
    job: Job | None = None


class ServedModel:
    """One loaded model with its scheduler, its metrics and the threads that decode and encode."""

    def __init__(
        self,
        model: Model,
        engine: Engine,
        scheduler: Scheduler,
        metrics: ModelMetrics,
        workers: Executor,
    ) -> None:
        self.model = model
        self.engine = engine
        self.scheduler = scheduler
        self.metrics = metrics
        self._workers = workers

    async def enqueue(
        self,
        ticket: Ticket,
        outputs: Sequence[OutputSpec],
        queue: StreamQueue,
        resolve: Callable[[Execution | RequestError], None],
        deadline: float = math.inf,
    ) -> None:
        """Decode the ticket's frame and let it wait; `resolve` gets what the scheduler makes of it.

        Raises:
            RequestError: the frame was refused; `resolve` is not called.
        """
        started = time.monotonic()
        spec = self.engine.frame_spec
        frame = await _guarded(self._workers, decode, ticket.arrival.parts, spec)
        ticket.decode_seconds = time.monotonic() - started
        # The arrays hold what is needed of the message from here on.
        ticket.arrival.parts.clear()
        ticket.job = Job(ticket.arrival.frame_id, frame, outputs, queue, resolve, deadline)
        self.scheduler.submit(ticket.job)

    async def respond(self, ticket: Ticket, execution: Execution, *, in_stream: bool) -> bytes:
        """The serialized answer to an executed frame; observes its stages.

        Raises:
            ModelLimitExceeded: outputs that no message can carry.
            InternalError: an output that is not what the model's metadata says.
        """
        size = sum(array.nbytes for array in execution.outputs.values())
        if size > _MAX_ANSWER_BYTES:
            raise ModelLimitExceeded(f"answer: {size} bytes, the limit is {_MAX_ANSWER_BYTES}")
        workers = self._workers if size > _INLINE_BYTES else None
        return await _guarded(workers, self._encode, ticket, execution, in_stream)

    def _encode(self, ticket: Ticket, execution: Execution, in_stream: bool) -> bytes:
        job, arrival = ticket.job, ticket.arrival
        assert job is not None
        started = time.monotonic()
        arrays = frame_outputs(execution.outputs, job.outputs, job.frame.rank)
        now = time.monotonic()
        stages = {
            "receive": arrival.last_at - arrival.first_at,
            "decode": ticket.decode_seconds,
            "queue": job.started_at - job.queued_at,
            "execute": execution.seconds,
            "encode": now - started,
            "total": now - arrival.last_at,
        }
        timing = pb.Timing(
            **{f"{stage}_us": round(seconds * 1e6) for stage, seconds in stages.items()},
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
        self.metrics.observe("receive", stages["receive"])
        self.metrics.observe("decode", stages["decode"])
        self.metrics.observe("queue", stages["queue"])
        self.metrics.observe("execute", stages["execute"])
        self.metrics.observe("encode", finished - started)
        self.metrics.observe("total", finished - arrival.last_at)
        return raw


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
