# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""The HTTP port: /metrics for Prometheus, /livez and /readyz for whatever runs the server."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from prometheus_client.exposition import CONTENT_TYPE_LATEST

from voxgate_server.errors import StartupError
from voxgate_server.metrics import Metrics

_MAX_REQUEST_BYTES: Final = 8192
_REQUEST_TIMEOUT: Final = 5.0
_MAX_CONNECTIONS: Final = 64
_END_OF_HEAD: Final = b"\r\n\r\n"

log = logging.getLogger(__name__)


class MetricsServer:
    """Serves from the event loop that serves the frames, so a loop that hangs fails its probe.

    Only the text of /metrics is made elsewhere, on one thread. A client has 5 s to ask and to take
    its answer. Beyond 64 connections the oldest makes room: a probe is let in whatever else hangs.
    """

    def __init__(
        self,
        metrics: Metrics,
        ready: Callable[[], bool],
        live: Callable[[], str | None] = lambda: None,
        *,
        request_timeout: float = _REQUEST_TIMEOUT,
        max_connections: int = _MAX_CONNECTIONS,
    ) -> None:
        """Both are asked at each probe.

        Args:
            ready: whether frames are taken.
            live: why the server should be restarted; None while all is well.
            request_timeout: seconds from a connection to the end of its answer.
        """
        self._metrics = metrics
        self._ready = ready
        self._live = live
        self._request_timeout = request_timeout
        self._max_connections = max_connections
        self._server: asyncio.Server | None = None
        self._connections: dict[asyncio.StreamWriter, asyncio.Task[None] | None] = {}
        self._renderer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="metrics")

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
            number = error.errno or 0
            reason = os.strerror(number) if number > 0 else error.strerror or str(error)
            raise StartupError(
                f"cannot listen on {host}:{port} for metrics: {reason}. "
                "Choose another one with --metrics-port"
            ) from error
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    async def stop(self) -> None:
        """Listen no more and drop the connections that are left."""
        if self._server is not None:
            self._server.close()
        tasks = [task for task in self._connections.values() if task is not None]
        for writer in list(self._connections):
            writer.transport.abort()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._renderer.shutdown(wait=False, cancel_futures=True)

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._make_room()
        self._connections[writer] = asyncio.current_task()
        try:
            async with asyncio.timeout(self._request_timeout):
                writer.write(await self._answer(reader))
                writer.close()
                await writer.wait_closed()
        except (TimeoutError, ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            # Whatever is still unsent, its client had its time. A closed transport ignores this.
            writer.transport.abort()
            self._connections.pop(writer, None)

    def _make_room(self) -> None:
        while len(self._connections) >= self._max_connections:
            oldest = next(iter(self._connections))
            task = self._connections.pop(oldest)
            oldest.transport.abort()
            if task is not None:
                task.cancel()

    async def _answer(self, reader: asyncio.StreamReader) -> bytes:
        try:
            head = await reader.readuntil(_END_OF_HEAD)
        except asyncio.LimitOverrunError:
            return _http("431 Request Header Fields Too Large", b"request too large\n")
        method, _, rest = head.partition(b" ")
        if method not in (b"GET", b"HEAD"):
            return _http("405 Method Not Allowed", b"only GET and HEAD\n")
        path = rest.partition(b" ")[0].partition(b"?")[0]
        try:
            response = await self._respond(path)
        except Exception:
            log.exception("the request for %r failed", path[:100])
            response = _http("500 Internal Server Error", b"see the server's log\n")
        if method == b"HEAD":
            return response.partition(_END_OF_HEAD)[0] + _END_OF_HEAD
        return response

    async def _respond(self, path: bytes) -> bytes:
        if path == b"/metrics":
            loop = asyncio.get_running_loop()
            text = await loop.run_in_executor(self._renderer, self._metrics.exposition)
            return _http("200 OK", text, CONTENT_TYPE_LATEST)
        if path == b"/livez":
            reason = self._live()
            if reason is not None:
                return _http("503 Service Unavailable", f"{reason}\n".encode())
            return _http("200 OK", b"ok\n")
        if path == b"/readyz":
            if self._ready():
                return _http("200 OK", b"ready\n")
            return _http("503 Service Unavailable", b"not ready\n")
        return _http("404 Not Found", b"try /metrics, /livez or /readyz\n")


def _http(status: str, body: bytes, content_type: str = "text/plain; charset=utf-8") -> bytes:
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body
