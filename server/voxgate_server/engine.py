# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""One loaded model: a pool of ONNX Runtime sessions, each on a thread of its own."""

from __future__ import annotations

import asyncio
import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import onnxruntime as ort

from voxgate_ops.device import CUDA_PROVIDER
from voxgate_ops.metadata import ModelMetadata, read_metadata
from voxgate_ops.session import check_model
from voxgate_server.codec import DecodedFrame, FrameSpec, OutputSpec
from voxgate_server.errors import InternalError, InvalidRequest, RequestError
from voxgate_server.instance import Execution, Instance
from voxgate_server.model_signature import (
    frame_spec,
    input_infos,
    is_batchable,
    output_infos,
    output_specs,
)
from voxgate_server.warm_up import WarmUp, synthetic_frame

__all__ = [
    "Engine",
    "EngineOptions",
    "Execution",
    "input_infos",
    "output_infos",
    "session_config",
]

_BATCH_SITES = {"cpu": 16_384, "cuda": 400_000}
_CLOSE_SECONDS = 5.0
_STOP_SECONDS = 1.0
# Of GPUs that are lost: ONNX Runtime throws in destructors where it cannot free their memory, which
# would end the process.
_unfreed: list[Instance] = []

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How a model is loaded. `name`: under which its operators' times are counted."""

    device: str = "auto"
    threads: int | None = None
    instances: int = 1
    use_tf32: bool = False
    warm_up: bool = True
    max_frame_sites: int = 2_000_000
    max_frame_bytes: int = 64 << 20
    name: str = ""


def session_config(name: str = "") -> dict[str, str]:
    """The session configuration entries of a served model called `name`."""
    # Otherwise ONNX Runtime's threads spin for some 20 ms after a run, on cores that the frames
    # before and behind it need.
    return {"session.force_spinning_stop": "1"} | ({"voxgate.model": name} if name else {})


@dataclass(slots=True, eq=False)
class _Run:
    """A batch on its way; `settle` is called once, on the thread that ran it."""

    frames: Sequence[DecodedFrame]
    outputs: Sequence[OutputSpec]
    settle: Callable[[list[Execution] | BaseException], None]
    options: ort.RunOptions
    started: bool = False
    abandoned: bool = False

    def abandon(self) -> None:
        self.abandoned = True
        self.options.terminate = True


class Engine:
    """Runs one model, as many batches at once as it has instances."""

    def __init__(
        self,
        sessions: Sequence[ort.InferenceSession],
        metadata: ModelMetadata,
        options: EngineOptions,
        weight_bytes: int = 0,
    ) -> None:
        """Check the graph against its metadata; no thread runs before `start`.

        Raises:
            ModelError: inputs or outputs that the metadata does not describe.
        """
        first = sessions[0]
        self.metadata = metadata
        self.frame_spec: FrameSpec = frame_spec(
            first, metadata, options.max_frame_sites, options.max_frame_bytes
        )
        self.outputs = output_specs(first, metadata)
        self.batchable = is_batchable(first, metadata)
        self.device = _device(first)
        self.instances = len(sessions)
        self.warm_up_runs = 0
        self.warm_up_seconds = 0.0
        self.lost = ""  # why nothing runs on the GPU any more; only a new process can use it again
        self._name = options.name or "model"
        self._weight_bytes = weight_bytes
        self._instances = [Instance(session, self.frame_spec, self.device) for session in sessions]
        self._threads: list[threading.Thread] = []
        # None tells one thread to end.
        self._queue: queue.SimpleQueue[_Run | None] = queue.SimpleQueue()
        self._runs: dict[asyncio.Future[Any], _Run] = {}
        self._unfinished: set[_Run] = set()
        self._closed = False
        self._lock = threading.Lock()  # of `_closed` and of what enters the queue

    @classmethod
    def load(cls, path: str | os.PathLike[str], options: EngineOptions) -> Engine:
        """Open the model at `path` and warm it up. Blocks; not for the event loop.

        Raises:
            VoxgateError: the file, its metadata or the operator library is missing or broken, or
                the model fails on synthetic frames.
            ValueError: an option is no legal value.
        """
        if options.instances < 1:
            raise ValueError(f"instances is {options.instances}, expected at least 1")
        file = check_model(path, device=options.device)
        threads = options.threads
        if threads is None and options.instances > 1:  # the cores are shared out
            threads = max(1, _cores() // options.instances)
        config = session_config(options.name)
        sessions = [
            file.open(threads=threads, use_tf32=options.use_tf32, config=config)
            for _ in range(options.instances)
        ]
        engine = cls(sessions, read_metadata(sessions[0]), options, file.weight_bytes)
        if options.warm_up:
            engine.warm_up()
        engine.start()
        return engine

    @property
    def default_max_batch_sites(self) -> int:
        """Sites of a batch beyond which this device gains nothing."""
        return _BATCH_SITES[self.device.partition(":")[0]]

    @property
    def memory_bytes(self) -> int:
        """Bytes of the weights, once for each instance, and of the batch buffers.

        An estimate from below: ONNX Runtime's arena, which holds the largest run's activations, and
        the operators' packed copies of weights cannot be asked for their size.
        """
        buffers = sum(instance.buffers.nbytes for instance in self._instances)
        return self._weight_bytes * len(self._instances) + buffers

    @property
    def hung(self) -> bool:
        """Whether a run was abandoned and is still going on."""
        return any(run.abandoned and run.started for run in tuple(self._unfinished))

    def select(self, names: Sequence[str]) -> list[OutputSpec]:
        """The outputs that a client asked for; all of them if it named none.

        Sites of sparse outputs are added: rows without their sites mean nothing.

        Raises:
            InvalidRequest: no such output.
        """
        if not names:
            return list(self.outputs.values())
        chosen: dict[str, OutputSpec] = {}
        for name in names:
            if name not in self.outputs:
                known = ", ".join(self.outputs)
                raise InvalidRequest(f"outputs: {name!r} is unknown, the model has {known}")
            spec = self.outputs[name]
            for wanted in (spec.coords, name):
                if wanted in self.outputs:
                    chosen[wanted] = self.outputs[wanted]
        return list(chosen.values())

    def warm_up(self) -> None:
        """Run synthetic frames on every instance: no, one and many sites, and all in a batch.

        A frame that the model refuses, as it may any frame, is logged. On a CPU in float32 a
        frame's answer must not depend on what shares its batch: where it does, the model is no
        longer `batchable`.

        Raises:
            ModelError: a run failed, or the model took none of the frames.
        """
        warm = WarmUp(
            self.frame_spec,
            self.metadata,
            list(self.outputs.values()),
            name=self._name,
            sites=min(self.default_max_batch_sites, self.frame_spec.max_sites),
        )
        exact = self.device == "cpu" and self.frame_spec.features_dtype == np.float32
        for instance in self._instances:
            alone = warm.run(instance)
            if not self.batchable:
                continue
            if (differing := warm.differing(instance, alone)) and exact:
                self.batchable = False
                log.warning(
                    "%s: its frames run alone, for in a batch these outputs are not the same "
                    "bits: %s",
                    self._name,
                    ", ".join(differing),
                )
        self.warm_up_runs, self.warm_up_seconds = warm.runs, warm.seconds

    def start(self) -> None:
        """Start the threads; before that, nothing runs."""
        for number, instance in enumerate(self._instances):
            # Daemons: a run that never ends must not keep the process.
            thread = threading.Thread(
                target=self._serve, args=(instance,), name=f"{self._name}-{number}", daemon=True
            )
            self._threads.append(thread)
            thread.start()

    async def run(
        self, frames: Sequence[DecodedFrame], outputs: Sequence[OutputSpec]
    ) -> list[Execution]:
        """Run a batch on the first instance that is free, and give each frame its part.

        A cancelled call abandons the run.

        Args:
            frames: one at least, one only where the model is not `batchable`.
            outputs: what any of the frames is to give.

        Raises:
            InvalidFrame: an operator refused the values of a frame.
            ModelLimitExceeded: an operator's output would be too large, or memory ran out.
            InternalError: anything else went wrong in ONNX Runtime, the run was abandoned, or the
                engine is closed.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[list[Execution]] = loop.create_future()
        run = _Run(frames, outputs, partial(_hand_over, loop, future), ort.RunOptions())
        task = asyncio.current_task()
        assert task is not None
        with self._lock:
            if self._closed:
                raise InternalError("the model is unloaded")
            self._unfinished.add(run)
            self._queue.put(run)
        self._runs[task] = run
        try:
            return await future
        except asyncio.CancelledError:
            run.abandon()
            raise
        finally:
            del self._runs[task]
            # An error's traceback has this call, whose future has the error: without the garbage
            # collector neither the frames nor the outputs would ever go.
            del future, run

    def abandon(self, task: asyncio.Future[Any]) -> None:
        """Have ONNX Runtime end the run that `task` awaits; it does so between two nodes.

        `task` then raises InternalError. Until it does, `hung` is true and the instance is taken.
        Nothing happens if `task` is in no run.
        """
        run = self._runs.get(task)
        if run is not None:
            run.abandon()

    def close(self, timeout: float = _CLOSE_SECONDS) -> bool:
        """Let the runs that were asked for end and stop the threads. Blocks; any thread may call.

        Args:
            timeout: seconds until runs are told to stop; those that do not within another second
                are left behind on their threads.

        Returns:
            Whether every thread has ended. One that has not is inside ONNX Runtime: a process that
            still has such a thread ends cleanly by `os._exit` only.
        """
        with self._lock:
            if not self._closed:
                self._closed = True
                for _ in self._threads:
                    self._queue.put(None)
        if not self._join(timeout):
            for run in tuple(self._unfinished):
                run.abandon()
            if not self._join(_STOP_SECONDS):
                self._fail_waiting()
                return False
        if self.lost:
            _unfreed.extend(self._instances)
        self._instances = []  # with them the sessions and their memory
        return True

    def _fail_waiting(self) -> None:
        with suppress(queue.Empty):
            while True:
                run = self._queue.get_nowait()
                if run is not None:
                    self._finish(run, InternalError("the model was unloaded"))
        for _ in self._threads:  # whichever comes back is to end
            self._queue.put(None)

    def _join(self, timeout: float) -> bool:
        end = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _serve(self, instance: Instance) -> None:
        while (run := self._queue.get()) is not None:
            try:
                if run.abandoned:
                    raise InternalError("the run was stopped before it began")
                run.started = True
                executions = instance.execute(run.frames, run.outputs, run.options)
            except BaseException as error:  # whatever it is, whoever waits must hear of it
                doubtful = isinstance(error, InternalError) and not run.abandoned
                self._finish(run, _light(error))
                if doubtful and self.device != "cpu":
                    self._check_gpu(instance)
            else:
                self._finish(run, executions)
                del executions
            del run  # its arrays must not live until the next run

    def _check_gpu(self, instance: Instance) -> None:
        # Some errors of CUDA end all use of the GPU by this process: then nothing runs any more.
        frame = synthetic_frame(self.frame_spec, self.metadata, 1)
        try:
            instance.execute([frame], list(self.outputs.values()), ort.RunOptions())
        except InternalError as error:
            self.lost = f"{self.device} is lost: {error}"
            log.error("%s: %s", self._name, self.lost)
        except RequestError:  # an answer, too
            pass

    def _finish(self, run: _Run, outcome: list[Execution] | BaseException) -> None:
        self._unfinished.discard(run)
        run.settle(outcome)


def _hand_over(
    loop: asyncio.AbstractEventLoop,
    future: asyncio.Future[list[Execution]],
    outcome: list[Execution] | BaseException,
) -> None:
    with suppress(RuntimeError):  # the loop is closed: nobody waits any more
        loop.call_soon_threadsafe(_settle, future, outcome)


def _settle(
    future: asyncio.Future[list[Execution]], outcome: list[Execution] | BaseException
) -> None:
    if future.done():  # cancelled
        return
    if isinstance(outcome, BaseException):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)


def _light(error: BaseException) -> BaseException:
    """`error`; one that says all itself is freed of its tracebacks, which hold the run's arrays."""
    if isinstance(error, RequestError):
        error.__cause__ = None
        return error.with_traceback(None)
    return error


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _device(session: ort.InferenceSession) -> str:
    options = session.get_provider_options().get(CUDA_PROVIDER)
    return "cpu" if options is None else f"cuda:{options.get('device_id', '0')}"
