# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Prometheus metrics, and the port that serves them together with /livez and /readyz."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from typing import Final, Literal

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from voxgate_server.errors import Outcome, StartupError

Stage = Literal["receive", "decode", "queue", "execute", "encode", "total"]

STAGES: Final[tuple[Stage, ...]] = ("receive", "decode", "queue", "execute", "encode", "total")
OUTCOMES: Final[tuple[Outcome, ...]] = (
    "ok",
    "invalid",
    "deadline",
    "superseded",
    "overloaded",
    "cancelled",
    "unavailable",
    "failed",
)
_BUCKETS = tuple(
    scale * digit for scale in (1e-4, 1e-3, 1e-2, 1e-1, 1.0) for digit in (1.0, 2.5, 5.0)
) + (10.0,)
_MAX_REQUEST_BYTES = 8192
# A `…_created` series beside every counter would double what Prometheus stores for nothing.
disable_created_metrics()  # type: ignore[no-untyped-call]
_REQUEST_TIMEOUT = 5.0


class FrameCount:
    """One received frame: counted on creation and, once, under the outcome it finishes with."""

    __slots__ = ("_finished", "_model")

    def __init__(self, model: ModelMetrics) -> None:
        self._model = model
        self._finished = False
        model.received.inc()

    def finish(self, outcome: Outcome) -> None:
        """Count the outcome; what comes after the first one is ignored."""
        if not self._finished:
            self._finished = True
            self._model.outcomes[outcome].inc()


class ModelMetrics:
    """The metrics of one version of one model, their labels resolved once."""

    def __init__(self, metrics: Metrics, model: str, version: str) -> None:
        self.received = metrics.frames_received.labels(model, version)
        self.outcomes = {o: metrics.frames.labels(model, version, o) for o in OUTCOMES}
        self._stages = {s: metrics.stage_seconds.labels(model, version, s) for s in STAGES}

    def frame_received(self) -> FrameCount:
        return FrameCount(self)

    def observe(self, stage: Stage, seconds: float) -> None:
        self._stages[stage].observe(seconds)


class Metrics:
    """All metrics of one server, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.frames = Counter(
            "voxgate_frames",
            "Frames by how they ended",
            ("model", "version", "outcome"),
            registry=self.registry,
        )
        self.frames_received = Counter(
            "voxgate_frames_received",
            "Frames received, whole or in part",
            ("model", "version"),
            registry=self.registry,
        )
        self.stage_seconds = Histogram(
            "voxgate_stage_seconds",
            "Time a frame spent in each stage",
            ("model", "version", "stage"),
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self._models: dict[tuple[str, str], ModelMetrics] = {}

    def model(self, name: str, version: str) -> ModelMetrics:
        """The metrics of a loaded model; of "" and "" for frames that reach none.

        Callers pass names of loaded models only, so that no client can mint a label.
        """
        key = (name, version)
        if key not in self._models:
            self._models[key] = ModelMetrics(self, name, version)
        return self._models[key]

    def exposition(self) -> bytes:
        text: bytes = generate_latest(self.registry)
        return text


class MetricsServer:
    """Serves /metrics, /livez and /readyz from the event loop that serves the frames.

    An event loop that hangs therefore fails its liveness probe.
    """

    def __init__(self, metrics: Metrics, ready: Callable[[], bool]) -> None:
        self._metrics = metrics
        self._ready = ready
        self._server: asyncio.Server | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen and return the port.

        Raises:
            StartupError: the port cannot be had.
        """
        try:
            self._server = await asyncio.start_server(
                self._handle, host, port, limit=_MAX_REQUEST_BYTES
            )
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else str(error)
            raise StartupError(
                f"cannot listen on {host}:{port} for metrics: {reason}. "
                "Choose another one with --metrics-port"
            ) from error
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_REQUEST_TIMEOUT):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(self._respond(head))
                await writer.drain()
        except (TimeoutError, ConnectionError, asyncio.IncompleteReadError):
            pass
        except asyncio.LimitOverrunError:
            writer.write(_http("431 Request Header Fields Too Large", b"request too large\n"))
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    def _respond(self, head: bytes) -> bytes:
        method, _, rest = head.partition(b" ")
        path = rest.partition(b" ")[0].partition(b"?")[0]
        if method not in (b"GET", b"HEAD"):
            return _http("405 Method Not Allowed", b"only GET and HEAD\n")
        if path == b"/metrics":
            response = _http("200 OK", self._metrics.exposition(), CONTENT_TYPE_LATEST)
        elif path == b"/livez":
            response = _http("200 OK", b"ok\n")
        elif path == b"/readyz":
            if self._ready():
                response = _http("200 OK", b"ready\n")
            else:
                response = _http("503 Service Unavailable", b"not ready\n")
        else:
            response = _http("404 Not Found", b"try /metrics, /livez or /readyz\n")
        return response.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" if method == b"HEAD" else response


def _http(status: str, body: bytes, content_type: str = "text/plain; charset=utf-8") -> bytes:
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body
