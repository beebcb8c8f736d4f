# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""The server: one gRPC port, one metrics port, the models behind them, and a clean end."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from voxgate_server.errors import StartupError
from voxgate_server.metrics import Metrics
from voxgate_server.metrics_server import MetricsServer
from voxgate_server.repository import Model, Repository, find_model_files
from voxgate_server.settings import Settings
from voxgate_server.voxel_service import SERVICE_NAME, VoxelService

log = logging.getLogger(__name__)

# A peer gone without FIN is found within 15 + 10 s; one that pings every 10 s is welcome.
_KEEPALIVE = (
    ("grpc.keepalive_time_ms", 15_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
)


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where a started server listens."""

    host: str
    port: int
    metrics_port: int


class App:
    """A server on the running event loop: `start`, then `stop`."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.repository = Repository([])
        self._service: VoxelService | None = None
        self._health = health.aio.HealthServicer()
        self._server = grpc.aio.server(
            options=(
                ("grpc.max_receive_message_length", settings.grpc_receive_limit),
                ("grpc.max_send_message_length", -1),
                # Two servers on one port would share its clients without anyone noticing.
                ("grpc.so_reuseport", 0),
                *_KEEPALIVE,
            )
        )
        self._metrics_server = MetricsServer(self.metrics, lambda: self._ready)

    @property
    def _ready(self) -> bool:
        return self._service is not None and self._service.ready

    @property
    def models(self) -> list[Model]:
        return self.repository.all()

    async def start(self) -> Addresses:
        """Listen, load the models, then serve.

        Raises:
            StartupError: a port is in use, or there are no models.
        """
        settings = self.settings
        find_model_files(settings.models)
        port = self._bind(settings.host, settings.port)
        metrics_port = await self._metrics_server.start(settings.host, settings.metrics_port)
        self.repository = await asyncio.to_thread(Repository.load, settings)
        self._service = VoxelService(self.repository, settings, self.metrics)
        self._service.start()
        self._server.add_generic_rpc_handlers((self._service.handler(),))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = (SERVICE_NAME, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server)
        serving = health_pb2.HealthCheckResponse
        status = serving.SERVING if self._ready else serving.NOT_SERVING
        for name in ("", SERVICE_NAME):
            await self._health.set(name, status)
        await self._server.start()
        return Addresses(settings.host, port, metrics_port)

    async def stop(self) -> None:
        """Drain: refuse new frames, answer the admitted ones, then close."""
        if self._service is not None:
            await self._health.enter_graceful_shutdown()
            await self._service.drain(self.settings.drain_timeout)
        await self._server.stop(grace=None)
        if self._service is not None:
            await self._service.close()
        await self._metrics_server.stop()
        await asyncio.to_thread(self.repository.close)

    def _bind(self, host: str, port: int) -> int:
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        if port:
            _check_free(host, port, address)
        try:
            bound: int = self._server.add_insecure_port(address)
        except RuntimeError as error:
            raise StartupError(f"cannot listen on {address}: {error}") from error
        return bound


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
    """Serve until SIGTERM or SIGINT, then drain; a second signal ends the drain at once.

    Raises:
        StartupError: the server cannot start.
    """
    app = App(settings)
    stop = asyncio.Event()
    hurry = asyncio.Event()

    def on_signal() -> None:
        (hurry if stop.is_set() else stop).set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    try:
        addresses = await app.start()
    except StartupError:
        await app.stop()
        raise
    announce(addresses, app.models)
    await stop.wait()
    log.info("stopping: answering the frames already admitted")
    stopping = asyncio.create_task(app.stop())
    hurried = asyncio.create_task(hurry.wait())
    await asyncio.wait({stopping, hurried}, return_when=asyncio.FIRST_COMPLETED)
    hurried.cancel()
    if not stopping.done():
        log.warning("stopping at once")
        stopping.cancel()
    await asyncio.gather(stopping, return_exceptions=True)
