# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""The whole service in virtual time over engines and calls that are played, and what it counted."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace
from typing import Any

import grpc
import numpy as np
import pytest
from tests.server.fake_engine import FakeEngine
from tests.server.models import GRID
from tests.server.virtual_time import VirtualTimeLoop, clock

from voxgate_protos import voxel_inference_pb2 as pb
from voxgate_server import scheduler, served_models, serving, stream_session, voxel_service
from voxgate_server.codec import DecodedFrame, FrameSpec, OutputSpec
from voxgate_server.engine import Execution
from voxgate_server.errors import InvalidFrame, InvalidRequest, ModelNotFound
from voxgate_server.metrics import Metrics
from voxgate_server.model import Model, State
from voxgate_server.security import Client
from voxgate_server.served_models import ServedModels
from voxgate_server.settings import Settings
from voxgate_server.telemetry import NoSpans
from voxgate_server.voxel_service import VoxelService

MAX_EXECUTE = 16.0
LONG = 1000.0  # everything is over by then
# Frames whose number of sites says what becomes of them in the engine; others take 1/4 s.
REFUSED, BROKEN, SLOW, HANGING, HUGE = 41, 42, 43, 44, 50
BATCH_SITES = 45

OUTCOME_OF = {
    grpc.StatusCode.INVALID_ARGUMENT: "invalid",
    grpc.StatusCode.ALREADY_EXISTS: "invalid",
    grpc.StatusCode.NOT_FOUND: "invalid",
    grpc.StatusCode.RESOURCE_EXHAUSTED: "overloaded",
    grpc.StatusCode.DEADLINE_EXCEEDED: "deadline",
    grpc.StatusCode.ABORTED: "superseded",
    grpc.StatusCode.CANCELLED: "cancelled",
    grpc.StatusCode.UNAVAILABLE: "unavailable",
    grpc.StatusCode.INTERNAL: "failed",
}
_log = logging.getLogger("voxgate_server")
CODES = {code.value[0]: code for code in grpc.StatusCode}


def use_virtual_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the service read the loop's clock and no other; small frames take workers' way too."""
    virtual = SimpleNamespace(monotonic=clock, time=time.time)
    for module in (stream_session, serving, voxel_service):
        monkeypatch.setattr(module, "time", virtual)
    clocked = partial(scheduler.Scheduler, clock=clock)
    monkeypatch.setattr(served_models, "Scheduler", clocked)
    monkeypatch.setattr(serving, "_INLINE_DECODE_BYTES", 100)
    monkeypatch.setattr(serving, "_IDLE_INLINE_DECODE_BYTES", 100)
    monkeypatch.setattr(serving, "_INLINE_ENCODE_BYTES", 0)
    monkeypatch.setattr(_log, "propagate", False)  # a hundred thousand lines of planned failures


class Workers(Executor):
    """Threads that are none: the work is done at once, and known a little later."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def submit(self, work: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        done: Future[Any] = Future()

        def run() -> None:
            if not done.set_running_or_notify_cancel():
                return
            try:
                done.set_result(work(*args, **kwargs))
            except BaseException as error:
                done.set_exception(error)

        asyncio.get_running_loop().call_later(self.seconds, run)
        return done


def outputs_named(name: str) -> dict[str, OutputSpec]:
    return {name: OutputSpec(name, pb.INT64, (1,), "per_frame")}


@dataclass
class ModelEngine(FakeEngine):
    """Answers a frame with its number of sites."""

    features: int = 2
    outputs: dict[str, OutputSpec] = field(default_factory=lambda: outputs_named("count"))
    memory_bytes: int = 1000
    default_max_batch_sites: int = BATCH_SITES
    warm_up_runs: int = 0
    warm_up_seconds: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.seconds = 0.25
        self.seconds_of = {SLOW: 4.0, HANGING: 4 * MAX_EXECUTE}
        self.error_of = {REFUSED: InvalidFrame("refused"), BROKEN: RuntimeError("broken")}
        self.frame_spec = FrameSpec(
            "voxels", GRID, self.features, np.dtype(np.float32), False, HUGE, 2000
        )
        self.metadata = SimpleNamespace(
            feature_names=["a", "b"], model_dump_json=lambda exclude_none: "{}"
        )
        self.most_running = 0

    def select(self, names: Sequence[str]) -> list[OutputSpec]:
        if unknown := set(names) - set(self.outputs):
            raise InvalidRequest(f"outputs: {unknown}")
        return list(self.outputs.values())

    async def run(
        self, frames: Sequence[DecodedFrame], outputs: Sequence[OutputSpec]
    ) -> list[Execution]:
        sizes = [frame.num_sites for frame in frames]
        self.batches.append(sizes)
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        seconds = max(self.seconds_of.get(size, self.seconds) for size in sizes)
        try:
            await asyncio.sleep(seconds)
        finally:
            self.running -= 1
        for size in sizes:
            if size in self.error_of:
                raise self.error_of[size]
        return [
            Execution(
                {spec.name: np.array([size]) for spec in outputs}, seconds, len(sizes), sum(sizes)
            )
            for size in sizes
        ]


class Folder:
    """The repository's rules of names and versions, without files."""

    def __init__(self, models: ServedModels, settings: Settings) -> None:
        self._models = models
        self._settings = settings
        self.slots: dict[int, Model] = {}
        self.retiring: dict[Model, asyncio.Task[None]] = {}
        self.engines: list[ModelEngine] = []

    def all(self) -> list[Model]:
        return [*self.slots.values(), *self.retiring]

    def get(self, name: str, version: str = "", may_know: object = None) -> Model:
        found = [m for m in self.all() if m.name == name and version in ("", str(m.version))]
        if not found:
            raise ModelNotFound(f"model: {name!r} {version!r} is unknown")
        return max(found, key=lambda model: (model.state is State.READY, model.version))

    def ready(self, name: str, version: str = "", may_know: object = None) -> Model:
        model = self.get(name, version)
        if model.state is not State.READY:
            raise ModelNotFound(f"model {name!r} is not ready")
        return model

    async def load(self, version: int, engine: ModelEngine) -> None:
        """Bring a version in; one of the same number that serves is replaced."""
        self.engines.append(engine)
        model = Model("m", version, self._settings, State.READY, engine)  # type: ignore[arg-type]
        old = self.slots.get(version)
        self.slots[version] = model
        await self._models.on_ready(model)
        if old is not None:
            self._retire(old)

    def unload(self, version: int) -> None:
        if version in self.slots:
            self._retire(self.slots.pop(version))

    def _retire(self, model: Model) -> None:
        model.state = State.UNLOADING
        task = asyncio.get_running_loop().create_task(self._models.on_retire(model))
        self.retiring[model] = task
        task.add_done_callback(lambda _: self.retiring.pop(model))


class Aborted(Exception):
    """What `abort` raises, as gRPC's does."""


@dataclass(frozen=True)
class Message:
    """What a client sends: `begins` are the frames that it is to get an answer each for."""

    raw: bytes
    begins: tuple[str, ...] = ()
    completes: str | None = None


class PlayedCall:
    """One call and its client: the service sees a context, the test what came of it."""

    def __init__(self, peer: str, seconds: float | None = None) -> None:
        self._peer = peer
        self._seconds = seconds  # a unary call's deadline
        self.parse: Callable[[bytes], pb.StreamResponse] = pb.StreamResponse.FromString
        self.inbox: deque[Message] = deque()
        self.sent_eof = False
        self.broken = False
        self.listening = True
        self.write_seconds = 0.0
        self.changed = asyncio.Event()
        self.begun: Counter[str] = Counter()  # of what the service has read
        self.completed: list[str] = []
        self.responses: list[pb.StreamResponse] = []
        self.code: grpc.StatusCode | None = None
        self.task: asyncio.Task[Any] | None = None

    # The test's side

    def change(self, **values: Any) -> None:
        for name, value in values.items():
            setattr(self, name, value)
        self.changed.set()

    def send(self, message: Message) -> None:
        self.inbox.append(message)
        self.changed.set()

    def answers(self) -> Counter[str]:
        results = [r.result.frame_id for r in self.responses if r.HasField("result")]
        return Counter(results) + Counter(error.frame_id for error in self.errors())

    def results(self) -> list[pb.InferResponse]:
        return [r.result for r in self.responses if r.HasField("result")]

    def errors(self) -> list[pb.FrameError]:
        return [r.error for r in self.responses if r.HasField("error")]

    # The service's side

    def invocation_metadata(self) -> tuple[()]:
        return ()

    def peer(self) -> str:
        return self._peer

    def auth_context(self) -> dict[str, list[bytes]]:
        return {}

    def time_remaining(self) -> float | None:
        return self._seconds

    async def _until(self, ready: Callable[[], object]) -> None:
        while not ready():
            self.changed.clear()
            await self.changed.wait()

    async def read(self) -> object:
        await self._until(lambda: self.broken or self.inbox or self.sent_eof)
        if self.broken:
            raise RuntimeError("the connection is gone")
        if not self.inbox:
            return grpc.aio.EOF
        message = self.inbox.popleft()
        self.begun.update(message.begins)
        if message.completes is not None:
            self.completed.append(message.completes)
        return message.raw

    async def write(self, message: bytes, /) -> None:
        await self._until(lambda: self.broken or self.listening)
        await asyncio.sleep(self.write_seconds)
        if self.broken:
            raise RuntimeError("the connection is gone")
        self.responses.append(self.parse(message))

    async def abort(self, code: grpc.StatusCode, details: str) -> None:
        self.code = code
        raise Aborted(details)


class _Complaints(logging.Handler):
    """Keeps what the server logs as its own failures: engines' and their frames' are planned."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if not message.startswith(("a run of ", "a run has taken", "frame failed: ")):
            self.messages.append(f"{record.name}: {message} {record.exc_info}")


class World:
    """A server that has come up with version 1 of the model `m`."""

    def __init__(self, decode_seconds: float, instances: int, **settings: Any) -> None:
        self.loop = VirtualTimeLoop()
        self.settings = Settings(
            max_frame_bytes=2000,
            max_execute=MAX_EXECUTE,
            max_priority=2,
            overload_pause=1 / 64,
            **settings,
        )
        self.instances = instances
        self.metrics = Metrics(operators=list)
        self.models = ServedModels(self.settings, self.metrics, Workers(decode_seconds))
        self.folder = Folder(self.models, self.settings)
        self.models.attach(self.folder)  # type: ignore[arg-type]
        authenticator: Any = SimpleNamespace(identify=self._identify)
        self.service = VoxelService(
            self.models, self.settings, self.metrics, authenticator, NoSpans()
        )
        self.complaints = _Complaints()
        _log.addHandler(self.complaints)
        self.asyncio_errors: list[dict[str, Any]] = []
        self.loop.set_exception_handler(lambda _, context: self.asyncio_errors.append(context))
        self.calls: list[PlayedCall] = []
        self.unary: list[PlayedCall] = []
        self.draining: asyncio.Task[None] | None = None
        self.run(self.load(1))

    def _identify(self, metadata: object, peer: str, auth: object) -> Client:
        settings = self.settings
        return Client(
            peer, peer, None, settings.max_priority, 4, settings.max_client_in_flight_bytes
        )

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(work)

    async def load(self, version: int, **changed: Any) -> None:
        await self.folder.load(version, ModelEngine(instances=self.instances, **changed))

    # Calls ---------------------------------------------------------------------------------------

    def _method(self, name: str) -> Any:
        details = SimpleNamespace(method=f"/voxgate.v1.VoxelInference/{name}")
        return self.service.handler().service(details)  # type: ignore[arg-type]

    def stream(self, peer: str) -> PlayedCall:
        call = PlayedCall(peer)
        call.task = self.loop.create_task(self._stream(call))
        self.calls.append(call)
        return call

    async def _stream(self, call: PlayedCall) -> None:
        try:
            await self._method("StreamInfer").stream_stream(None, call)
            if call.code is None and not call.broken:
                call.code = grpc.StatusCode.OK
        except Aborted:
            pass

    def infer(self, peer: str, request: pb.InferRequest, seconds: float | None) -> PlayedCall:
        call = PlayedCall(peer, seconds)
        call.task = self.loop.create_task(self._infer(call, request))
        self.unary.append(call)
        return call

    async def _infer(self, call: PlayedCall, request: pb.InferRequest) -> None:
        call.parse = lambda raw: pb.StreamResponse(result=pb.InferResponse.FromString(raw))
        call.send(Message(request.SerializeToString()))
        try:
            await self._method("Infer").stream_stream(None, call)
        except Aborted:
            return
        call.code = grpc.StatusCode.OK

    # The end -------------------------------------------------------------------------------------

    def finish(self) -> None:
        """Let every client hear, half-close and get its answers; then stop the server."""
        try:
            self.run(self._finish())
            left = asyncio.all_tasks(self.loop)
        finally:
            self.loop.close()
            _log.removeHandler(self.complaints)
        assert not left, left

    async def _finish(self) -> None:
        for call in self.calls:
            call.change(sent_eof=True, listening=True, write_seconds=0.0)
        await asyncio.sleep(LONG)
        tasks = [call.task for call in (*self.calls, *self.unary) if call.task]
        unfinished = [task for task in tasks if not task.done()]
        assert not unfinished, f"calls that do not end: {unfinished}"
        for task in tasks:
            assert task.cancelled() or task.exception() is None, task.exception()
        await self.service.drain(1.0)
        if self.draining is not None:
            await self.draining
        assert not self.folder.retiring, "versions that do not retire"
        used = self.samples("voxgate_in_flight_bytes")
        assert used == {(): 0}, used
        await self.models.close()
        await asyncio.sleep(2.0)

    def samples(self, name: str, *labels: str) -> dict[tuple[str, ...], float]:
        """The values of a metric, summed up by `labels`; the zeros of labelled ones left out."""
        values: Counter[tuple[str, ...]] = Counter()
        for family in self.metrics.registry.collect():
            for sample in family.samples:
                if sample.name == name:
                    values[tuple(sample.labels[label] for label in labels)] += sample.value
        return {key: value for key, value in values.items() if value or not labels}
