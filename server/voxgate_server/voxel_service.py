# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""The service `voxgate.v1.VoxelInference`: its calls, who makes them, and how they end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import TypeAlias

import grpc

from voxgate_protos import voxel_inference_pb2 as pb
from voxgate_server.admission import Admission, Hold
from voxgate_server.codec import check_limits, payload_of
from voxgate_server.engine import Execution
from voxgate_server.errors import (
    Draining,
    InternalError,
    InvalidRequest,
    ModelNotFound,
    Outcome,
    Overloaded,
    RequestError,
    Unauthenticated,
    outcome_of,
    status_code,
    status_text,
)
from voxgate_server.metrics import Metrics
from voxgate_server.outbox import CallBroken
from voxgate_server.security import Authenticator, Client
from voxgate_server.served_models import ServedModels
from voxgate_server.serving import Ticket, record_span
from voxgate_server.settings import Settings
from voxgate_server.stream_session import DRAINING_MESSAGE, StreamSession
from voxgate_server.streams import arrival_of, check_id
from voxgate_server.telemetry import FrameSpans
from voxgate_server.wire import Parsed, parse

SERVICE_NAME = pb.DESCRIPTOR.services_by_name["VoxelInference"].full_name
# Time for answers already given to reach their clients once a drain has run out.
_EXPIRED_GRACE = 1.0
# A call that takes no answer for so long gives up its part of memory when there is none left.
STALL_SECONDS = 10.0

Context: TypeAlias = "grpc.aio.ServicerContext[bytes, bytes]"

log = logging.getLogger(__name__)


class VoxelService:
    """All calls of the service, over raw bytes. Lives on one event loop."""

    def __init__(
        self,
        models: ServedModels,
        settings: Settings,
        metrics: Metrics,
        authenticator: Authenticator,
        spans: FrameSpans,
    ) -> None:
        self._models = models
        self._settings = settings
        self._metrics = metrics
        self._unknown = metrics.model("", "")
        self._authenticator = authenticator
        self._spans = spans
        self._admission = Admission(settings.max_in_flight_bytes)
        metrics.watch_in_flight(lambda: self._admission.bytes.used)
        self._draining = False
        self._calls = 0
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._sessions: set[StreamSession] = set()
        self._sending: dict[asyncio.Timeout, tuple[float, Hold]] = {}
        self._executions: set[asyncio.Future[Execution | RequestError]] = set()

    @property
    def draining(self) -> bool:
        return self._draining

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
                execution.set_result(Draining("the server stopped before this was answered"))
        await self._wait_until_quiet(_EXPIRED_GRACE)

    def handler(self) -> grpc.GenericRpcHandler:
        """The handler to register. It has no deserializers: every call parses for itself.

        All are streams to grpc.aio, which on the wire is the same. It would read the message of a
        unary call before anyone could ask whose it is, and write its answer when nobody could
        count it any more.
        """
        return grpc.method_handlers_generic_handler(
            SERVICE_NAME,
            {
                name: grpc.stream_stream_rpc_method_handler(self._ending_well(call))
                for name, call in (
                    ("Infer", self._infer),
                    ("StreamInfer", self._stream_infer),
                    ("ListModels", self._list_models),
                    ("GetModel", self._get_model),
                )
            },
        )

    # Calls --------------------------------------------------------------------------------------

    def _ending_well(
        self, call: Callable[[Context], Awaitable[None]]
    ) -> Callable[[object, Context], Awaitable[None]]:
        """`call` with its errors as the status of the RPC."""

        async def answer(_: object, context: Context) -> None:
            try:
                await call(context)
                return
            except CallBroken:
                log.debug("call broken by its client")
                return
            except RequestError as error:
                refusal = error
            except Exception:
                log.exception("a call failed")
                refusal = InternalError("the server failed on this call, its log says how")
            await context.abort(status_code(refusal), status_text(refusal))

        return answer

    async def _list_models(self, context: Context) -> None:
        client = self._identify(context)
        parse(pb.ListModelsRequest, await _receive(context))
        infos = [model.info() for model in self._models.visible(client)]
        await _send(context, pb.ListModelsResponse(models=infos).SerializeToString())

    async def _get_model(self, context: Context) -> None:
        client = self._identify(context)
        request = parse(pb.GetModelRequest, await _receive(context)).message
        model = self._models.get(request.name, request.version, client)
        await _send(context, model.info().SerializeToString())

    async def _infer(self, context: Context) -> None:
        try:
            client = self._identify(context)
            account = self._admission.account(client)
            self._admission.check_room(account)
            raw = await _receive(context)
            received_at = time.monotonic()
            parsed = parse(pb.InferRequest, raw)
            request = parsed.message
            served = self._models.find(request.model, request.version, client)
        except RequestError as error:
            self._unknown.frame_received().finish(outcome_of(error))
            raise
        served.metrics.add_received_bytes(len(raw))
        ticket = served.admit(arrival_of(request.frame, received_at))
        hold = self._admission.hold(account)
        self._enter()
        try:
            with self._counting(ticket, context):
                if self._draining:
                    raise Draining(DRAINING_MESSAGE)
                self._admission.check_room(account)
                hold.add(len(raw))
                answer = await self._run_frame(parsed, ticket, client, context)
                hold.add(len(answer))
                await self._send_held(context, answer, hold)
            served.metrics.add_sent_bytes(len(answer))
            captured_at = ticket.arrival.captured_at
            if captured_at is not None:
                served.metrics.observe_age(time.time() - captured_at)
        finally:
            hold.release()
            served.leave(ticket)
            self._leave()

    @contextlib.contextmanager
    def _counting(self, ticket: Ticket, context: Context) -> Iterator[None]:
        """Count a frame under what comes of the block."""
        outcome: Outcome = "cancelled"  # if nothing else comes of it: the client hung up
        try:
            yield
            outcome = "ok"
        except RequestError as error:
            outcome = outcome_of(error)
            if outcome == "failed":
                names = {"model": ticket.served.model.name, "frame_id": ticket.arrival.frame_id}
                log.error("frame failed: %s", error, extra=names)
            raise
        except CallBroken:
            raise
        except Exception:
            outcome = "failed"
            raise
        finally:
            ticket.count.finish(outcome)
            parent = self._spans.parent(context.invocation_metadata())
            record_span(self._spans, ticket, outcome, parent)

    async def _run_frame(
        self, parsed: Parsed[pb.InferRequest], ticket: Ticket, client: Client, context: Context
    ) -> bytes:
        request, served = parsed.message, ticket.served
        spec = served.engine.frame_spec
        outputs = served.engine.select(request.outputs)
        check_id(request.frame.frame_id)
        payload = payload_of(request.frame, spec, parsed.arrays)
        check_limits(payload.count, payload.nbytes, spec)
        ticket.arrival.parts.append(payload)
        remaining = context.time_remaining()
        deadline = math.inf if remaining is None else time.monotonic() + remaining

        # An error is its result too: nobody asks after the exception of a call that was cancelled.
        execution: asyncio.Future[Execution | RequestError]
        execution = asyncio.get_running_loop().create_future()
        self._executions.add(execution)

        def resolve(outcome: Execution | RequestError) -> None:
            if not execution.done():
                execution.set_result(outcome)

        try:
            queue = served.unary_queue(client)
            await served.enqueue(ticket, outputs, queue, resolve, deadline)
            executed = await execution
        finally:
            self._executions.discard(execution)
            if ticket.job is not None:
                served.scheduler.cancel(ticket.job)
        if isinstance(executed, RequestError):
            raise executed
        return await served.respond(ticket, executed, in_stream=False)

    async def _stream_infer(self, context: Context) -> None:
        code = grpc.StatusCode.CANCELLED
        session: StreamSession | None = None
        self._enter()
        try:
            client = self._identify(context)
            if self._draining:
                raise Draining(DRAINING_MESSAGE)
            account = self._admission.account(client)
            account.open_stream()
            try:
                session = self._session(context, client)
                await session.run()
                code = grpc.StatusCode.OK
            finally:
                account.close_stream()
        except RequestError as error:
            code = status_code(error)
            raise
        except CallBroken:
            raise
        except Exception:
            code = grpc.StatusCode.INTERNAL
            raise
        finally:
            self._metrics.stream_closed(code.name)
            if session is not None:
                self._sessions.discard(session)
                session.log_end(code.name)
            self._leave()

    def _session(self, context: Context, client: Client) -> StreamSession:
        session = StreamSession(
            context,
            self._settings,
            self._models,
            client,
            self._admission,
            self._unknown,
            self._spans,
            context.invocation_metadata(),
        )
        self._sessions.add(session)
        return session

    # What calls share ---------------------------------------------------------------------------

    def _identify(self, context: Context) -> Client:
        try:
            return self._authenticator.identify(
                context.invocation_metadata() or (), context.peer(), context.auth_context()
            )
        except Unauthenticated:
            self._metrics.auth_failure()
            raise

    def recheck_clients(self) -> None:
        """End the streams whose token lost its place or their model; update the others' limits."""
        for session in list(self._sessions):
            try:
                session.recheck(self._authenticator.recheck)
            except Unauthenticated as error:
                self._metrics.auth_failure()
                session.end(error)
            except ModelNotFound as error:
                session.end(error)

    async def watch_memory(self) -> None:
        """While nothing can be read any more, end the calls whose clients take no answers.

        A few clients that do not read would otherwise stop the server for all the others.
        """
        while True:
            await asyncio.sleep(STALL_SECONDS / 10)
            if self._admission.bytes.full and self._end_stalled(time.monotonic() - STALL_SECONDS):
                await asyncio.sleep(STALL_SECONDS)  # its memory may be free only then

    def _end_stalled(self, since: float) -> bool:
        """End the largest call that has not taken an answer `since` then; False: there is none."""
        stalled: list[tuple[int, Callable[[], None]]] = []
        for session in self._sessions:
            if (writing := session.outbox.writing_since) is not None and writing <= since:
                size = session.held_bytes
                stalled.append((size, partial(session.end, _not_taken(size))))
        for patience, (writing, hold) in self._sending.items():
            if writing <= since:
                stalled.append((hold.size, partial(patience.reschedule, 0.0)))
        if not stalled:
            return False
        _, end = max(stalled, key=lambda one: one[0])
        end()
        return True

    async def _send_held(self, context: Context, answer: bytes, hold: Hold) -> None:
        """`_send`; Overloaded: memory ran out, and the client took no answers."""
        try:
            async with asyncio.timeout(None) as patience:
                self._sending[patience] = time.monotonic(), hold
                try:
                    await _send(context, answer)
                finally:
                    del self._sending[patience]
        except TimeoutError:
            raise _not_taken(hold.size) from None

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


def _not_taken(size: int) -> Overloaded:
    return Overloaded(
        f"max_in_flight_bytes: the server is full, and {size} bytes of it are of this call, which "
        f"has taken no answer for {STALL_SECONDS:g} s"
    )


async def _receive(context: Context) -> bytes:
    """The one message of a call that is unary to its client.

    Raises:
        InvalidRequest: there is none.
        CallBroken: the client is gone.
    """
    try:
        raw = await context.read()
        if not isinstance(raw, bytes):  # grpc.aio.EOF
            # Also what a call reads that breaks, or whose message is above gRPC's limit, just
            # before it is cancelled: what is read now comes behind that.
            await context.read()
    except Exception as error:  # gRPC raises its own, its core's and asyncio's here
        raise CallBroken from error
    if not isinstance(raw, bytes):
        raise InvalidRequest("the call has no message")
    return raw


async def _send(context: Context, answer: bytes) -> None:
    """Answer such a call. Raises CallBroken: the client is gone."""
    try:
        await context.write(answer)
    except Exception as error:
        raise CallBroken from error
