# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""The server: its ports, the services behind them, and a clean end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from voxgate_server.admin_service import AdminServer
from voxgate_server.errors import StartupError
from voxgate_server.gpu_metrics import find_gpus
from voxgate_server.metrics import Metrics
from voxgate_server.metrics_server import MetricsServer
from voxgate_server.repository import Model, Repository
from voxgate_server.security import Security
from voxgate_server.served_models import ServedModels
from voxgate_server.settings import Settings
from voxgate_server.telemetry import frame_spans
from voxgate_server.voxel_service import SERVICE_NAME, VoxelService

log = logging.getLogger(__name__)

# A peer gone without FIN is found within 15 + 10 s; one that pings every 10 s is welcome.
_KEEPALIVE = (
    ("grpc.keepalive_time_ms", 15_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # What ends the wait in gRPC of today, whose default is a minute, whatever the line above says.
    ("grpc.http2.ping_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
)
# How long a thread may keep the GIL while another waits. Python's 5 ms would be most of what a
# frame costs the server: it is handed from thread to thread several times.
_SWITCH_INTERVAL = 0.0005
_HEALTH_SECONDS = 1.0
# Of health and reflection, which anyone may call: a watched service's name is kept while watched.
_MAX_OPEN_REQUEST_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where a started server listens; `admin_port` is None without an admin service."""

    host: str
    port: int
    metrics_port: int
    admin_port: int | None = None


class App:
    """A server on the running event loop: `start`, then `stop`.

    Raises:
        StartupError: settings that are unsafe, or files they name that are missing or broken.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self._security = Security(settings)
        self._spans = frame_spans(settings)
        workers = min(4, max(2, os.cpu_count() or 1))
        self._workers = ThreadPoolExecutor(workers, thread_name_prefix="codec")
        self.models = ServedModels(settings, self.metrics, self._workers)
        self.repository = Repository(
            settings, self.metrics, on_ready=self.models.on_ready, on_retire=self.models.on_retire
        )
        self.models.attach(self.repository)
        self.service = VoxelService(
            self.models, settings, self.metrics, self._security.authenticator, self._spans
        )
        self._health = health.aio.HealthServicer()
        self._server = grpc.aio.server(
            interceptors=[_SmallRequests()],
            options=(
                ("grpc.max_receive_message_length", settings.grpc_receive_limit),
                ("grpc.max_send_message_length", -1),
                # Two servers on one port would share its clients without anyone noticing.
                ("grpc.so_reuseport", 0),
                *_KEEPALIVE,
            ),
        )
        self._metrics_server = MetricsServer(self.metrics, lambda: self.ready, self.models.trouble)
        self._admin: AdminServer | None = None
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def ready(self) -> bool:
        return self.models.any_ready and not self.service.draining

    async def start(self) -> Addresses:
        """Listen, load the models, then serve.

        Raises:
            StartupError: a port is in use, or there are no models.
        """
        settings = self.settings
        port = self._bind(settings.host, settings.port)
        metrics_port = await self._metrics_server.start(settings.host, settings.metrics_port)
        await self.repository.start()
        self._server.add_generic_rpc_handlers((self.service.handler(),))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = (SERVICE_NAME, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server)
        await self._report_health()
        await self._server.start()
        admin_port = await self._start_admin()
        gpus = find_gpus()
        if gpus is not None:
            self.metrics.registry.register(gpus)
        for work in (
            self.repository.watch(),
            self._security.watch(self.service.recheck_clients),
            self._watch_health(),
            self.service.watch_memory(),
        ):
            self._tasks.append(asyncio.create_task(_logged(work)))
        return Addresses(settings.host, port, metrics_port, admin_port)

    async def stop(self) -> None:
        """Drain: refuse new frames, answer the admitted ones, then close."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._admin is not None:
            await self._admin.stop()
        await self._health.enter_graceful_shutdown()
        await self.service.drain(self.settings.drain_timeout)
        await self._server.stop(grace=None)
        await self.models.close()
        await self._metrics_server.stop()
        self._workers.shutdown(wait=False)
        await self.repository.close()
        await asyncio.to_thread(self._spans.close)

    async def _start_admin(self) -> int | None:
        port, credential = self.settings.admin_port, self._security.admin
        if port is None or credential is None:
            return None
        self._admin = AdminServer(self.repository, credential.check, self.metrics.auth_failure)
        return await self._admin.start(port)

    async def _watch_health(self) -> None:
        """Health follows what is loaded: a server may start empty and get its models later."""
        while True:
            await asyncio.sleep(_HEALTH_SECONDS)
            await self._report_health()

    async def _report_health(self) -> None:
        serving = health_pb2.HealthCheckResponse
        status = serving.SERVING if self.ready else serving.NOT_SERVING
        for name in ("", SERVICE_NAME):
            await self._health.set(name, status)

    def _bind(self, host: str, port: int) -> int:
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        if port:
            _check_free(host, port, address)
        credentials = self._security.server_credentials()
        try:
            bound: int = (
                self._server.add_insecure_port(address)
                if credentials is None
                else self._server.add_secure_port(address, credentials)
            )
        except RuntimeError as error:
            raise StartupError(f"cannot listen on {address}: {error}") from error
        return bound


class _SmallRequests(grpc.aio.ServerInterceptor):
    """Refuses large requests of the services that have deserializers, which ours has not."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        handler = await continuation(handler_call_details)
        if handler is None or handler.request_deserializer is None:
            return handler
        parse = handler.request_deserializer

        def parse_small(raw: bytes) -> object:
            if len(raw) > _MAX_OPEN_REQUEST_BYTES:
                raise ValueError(
                    f"{len(raw)} bytes, {handler_call_details.method} takes at most "
                    f"{_MAX_OPEN_REQUEST_BYTES}"
                )
            return parse(raw)

        return handler._replace(request_deserializer=parse_small)


async def _logged(work: Coroutine[Any, Any, None]) -> None:
    try:
        await work
    except Exception:  # what is left of the server is better than nothing
        log.exception("a background task failed")


def _check_free(host: str, port: int, address: str) -> None:
    """Raise StartupError with the reason, which gRPC keeps to itself, if `port` cannot be had."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        reason = error.strerror or str(error)
        raise StartupError(
            f"cannot listen on {address}: {reason}. Choose another port with --port"
        ) from error


async def serve(settings: Settings, announce: Callable[[Addresses, list[Model]], None]) -> None:
    """Serve until SIGTERM or SIGINT, then drain; a second SIGINT ends the drain at once.

    Raises:
        StartupError: the server cannot start.
    """
    sys.setswitchinterval(_SWITCH_INTERVAL)
    app = App(settings)
    stop = asyncio.Event()
    hurry = asyncio.Event()

    def on_interrupt() -> None:
        (hurry if stop.is_set() else stop).set()

    loop = asyncio.get_running_loop()
    # Only Ctrl-C hurries: supervisors send SIGTERM more than once.
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGINT, on_interrupt)
    stopped = asyncio.create_task(stop.wait())
    starting = asyncio.create_task(app.start())
    await asyncio.wait({starting, stopped}, return_when=asyncio.FIRST_COMPLETED)
    if starting.done() and starting.exception() is None:
        # What is loaded by now stays: looking through it again for garbage takes milliseconds.
        gc.collect()
        gc.freeze()
        announce(starting.result(), app.repository.all())
        await stopped
        log.info("stopping: answering the frames already admitted")
    elif not starting.done():
        log.info("stopping before every model is loaded")
        starting.cancel()
    await _stop(app, hurry)
    stopped.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await starting


async def _stop(app: App, hurry: asyncio.Event) -> None:
    stopping = asyncio.create_task(app.stop())
    hurried = asyncio.create_task(hurry.wait())
    await asyncio.wait({stopping, hurried}, return_when=asyncio.FIRST_COMPLETED)
    hurried.cancel()
    if not stopping.done():
        log.warning("stopping at once")
        stopping.cancel()
    (error,) = await asyncio.gather(stopping, return_exceptions=True)
    if isinstance(error, Exception):
        log.error("the server did not stop cleanly", exc_info=error)
