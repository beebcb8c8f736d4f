# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""The service `voxgate.v1.VoxelInference`: its calls, and the models they reach."""

from __future__ import annotations

import asyncio
import math
import os
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeAlias, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message

from voxgate_protos import voxel_inference_pb2 as pb
from voxgate_server.codec import check_limits, payload_of
from voxgate_server.engine import Execution
from voxgate_server.errors import Draining, InvalidRequest, RequestError, outcome_of, status_code
from voxgate_server.metrics import FrameCount, Metrics
from voxgate_server.repository import Repository
from voxgate_server.scheduler import Scheduler, StreamQueue
from voxgate_server.serving import ServedModel, Ticket
from voxgate_server.settings import Settings
from voxgate_server.stream_session import DRAINING_MESSAGE, StreamSession
from voxgate_server.streams import arrival_of, check_id

SERVICE_NAME = pb.DESCRIPTOR.services_by_name["VoxelInference"].full_name
# gRPC sends status messages as headers, which it limits to 8 KiB.
_MAX_STATUS_CHARS = 1000
# Time for answers already given to reach their clients once a drain has run out.
_EXPIRED_GRACE = 1.0

Context: TypeAlias = "grpc.aio.ServicerContext[bytes, bytes]"
M = TypeVar("M", bound=Message)


class VoxelService:
    """All calls of the service, over raw bytes. Lives on one event loop."""

    def __init__(self, repository: Repository, settings: Settings, metrics: Metrics) -> None:
        self._repository = repository
        self._settings = settings
        self._unknown = metrics.model("", "")
        workers = min(4, max(2, os.cpu_count() or 1))
        self._workers = ThreadPoolExecutor(workers, thread_name_prefix="codec")
        self._served: dict[tuple[str, int], ServedModel] = {}
        for model in repository.all():
            if model.engine is not None:
                scheduler = Scheduler(model.engine, settings.max_model_queued_frames)
                counts = metrics.model(model.name, str(model.version))
                served = ServedModel(model, model.engine, scheduler, counts, self._workers)
                self._served[model.name, model.version] = served
        self._draining = False
        self._calls = 0
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._sessions: set[StreamSession] = set()
        self._executions: set[asyncio.Future[Execution]] = set()

    @property
    def ready(self) -> bool:
        return bool(self._served) and not self._draining

    def start(self) -> None:
        for served in self._served.values():
            served.scheduler.start()

    async def drain(self, timeout: float) -> None:
        """Refuse new frames and wait until the admitted ones are answered, at most `timeout` s."""
        self._draining = True
        for session in list(self._sessions):
            session.begin_drain()
        if await self._wait_until_quiet(timeout):
            return
        for session in list(self._sessions):
            session.expire()
        for execution in self._executions:
            if not execution.done():
                execution.set_exception(Draining("the server stopped before this was answered"))
        await self._wait_until_quiet(_EXPIRED_GRACE)

    async def close(self) -> None:
        for served in self._served.values():
            await served.scheduler.close()
        self._workers.shutdown(wait=False)

    def handler(self) -> grpc.GenericRpcHandler:
        """The handler to register. It has no deserializers: every call parses for itself."""
        unary = grpc.unary_unary_rpc_method_handler
        return grpc.method_handlers_generic_handler(
            SERVICE_NAME,
            {
                "Infer": unary(self._answering(self._infer)),
                "StreamInfer": grpc.stream_stream_rpc_method_handler(self._stream_infer),
                "ListModels": unary(self._answering(self._list_models)),
                "GetModel": unary(self._answering(self._get_model)),
            },
        )

    # Calls --------------------------------------------------------------------------------------

    def _answering(
        self, call: Callable[[bytes, Context], Awaitable[bytes]]
    ) -> Callable[[bytes, Context], Awaitable[bytes]]:
        """`call` with its RequestErrors as the status of the RPC."""

        async def answer(raw: bytes, context: Context) -> bytes:
            try:
                return await call(raw, context)
            except RequestError as error:
                await context.abort(status_code(error), str(error)[:_MAX_STATUS_CHARS])

        return answer

    async def _list_models(self, raw: bytes, _: Context) -> bytes:
        _parse(pb.ListModelsRequest, raw)
        infos = [model.info() for model in self._repository.all()]
        return pb.ListModelsResponse(models=infos).SerializeToString()

    async def _get_model(self, raw: bytes, _: Context) -> bytes:
        request = _parse(pb.GetModelRequest, raw)
        return self._repository.get(request.name, request.version).info().SerializeToString()

    async def _infer(self, raw: bytes, context: Context) -> bytes:
        received_at = time.monotonic()
        try:
            request = _parse(pb.InferRequest, raw)
            served = self._find(request.model, request.version)
        except RequestError as error:
            self._unknown.frame_received().finish(outcome_of(error))
            raise
        count = served.metrics.frame_received()
        self._enter()
        try:
            answer = await self._run_frame(request, served, count, received_at, context)
            count.finish("ok")
            return answer
        except RequestError as error:
            count.finish(outcome_of(error))
            raise
        finally:
            count.finish("cancelled")  # only where nothing else was counted: the client hung up
            self._leave()

    async def _run_frame(
        self,
        request: pb.InferRequest,
        served: ServedModel,
        count: FrameCount,
        received_at: float,
        context: Context,
    ) -> bytes:
        if self._draining:
            raise Draining(DRAINING_MESSAGE)
        spec = served.engine.frame_spec
        outputs = served.engine.select(request.outputs)
        check_id(request.frame.frame_id)
        payload = payload_of(request.frame, spec, arrays)
        check_limits(payload.count, payload.nbytes, spec)
        ticket = Ticket(arrival_of(request.frame, received_at, payload), count)
        remaining = context.time_remaining()
        deadline = math.inf if remaining is None else time.monotonic() + remaining

        execution: asyncio.Future[Execution] = asyncio.get_running_loop().create_future()
        self._executions.add(execution)

        def resolve(outcome: Execution | RequestError) -> None:
            if execution.done():
                return
            if isinstance(outcome, RequestError):
                execution.set_exception(outcome)
            else:
                execution.set_result(outcome)

        queue = StreamQueue(self._settings.max_model_queued_frames)
        try:
            await served.enqueue(ticket, outputs, queue, resolve, deadline)
            return await served.respond(ticket, await execution, in_stream=False)
        finally:
            self._executions.discard(execution)
            if ticket.job is not None:
                served.scheduler.cancel(ticket.job)

    async def _stream_infer(self, _: Any, context: Context) -> None:
        session = StreamSession(context, self._settings, self._find, self._unknown)
        self._sessions.add(session)
        self._enter()
        try:
            if self._draining:
                session.begin_drain()
            await session.run()
        except RequestError as error:
            await context.abort(status_code(error), str(error)[:_MAX_STATUS_CHARS])
        finally:
            self._sessions.discard(session)
            self._leave()

    # What calls share ---------------------------------------------------------------------------

    def _find(self, name: str, version: str) -> ServedModel:
        model, _ = self._repository.ready(name, version)
        return self._served[model.name, model.version]

    def _enter(self) -> None:
        self._calls += 1
        self._quiet.clear()

    def _leave(self) -> None:
        self._calls -= 1
        if not self._calls:
            self._quiet.set()

    async def _wait_until_quiet(self, timeout: float) -> bool:
        try:
            async with asyncio.timeout(timeout):
                await self._quiet.wait()
        except TimeoutError:
            return False
        return True


def _parse(kind: type[M], raw: bytes) -> M:
    try:
        return kind.FromString(raw)
    except DecodeError as error:
        raise InvalidRequest(f"message of {len(raw)} bytes: not parsable: {error}") from error
