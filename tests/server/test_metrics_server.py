# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""The HTTP port: probes, the text of /metrics, and clients that mean no good."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from prometheus_client.parser import text_string_to_metric_families

from voxgate_server.errors import StartupError
from voxgate_server.metrics import Metrics
from voxgate_server.metrics_server import MetricsServer

TIMEOUT = 20.0
PATIENCE = 1.0  # what a server gives a client that a test has cut off


@dataclass
class Http:
    """A server whose readiness and liveness a test sets, and requests to it."""

    metrics: Metrics
    ready: bool = True
    unwell: str | None = None
    port: int = 0
    open: list[asyncio.StreamWriter] = field(default_factory=list)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.open.append(writer)
        return reader, writer

    async def send(self, raw: bytes) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of what `raw` is answered with."""
        reader, writer = await self.connect()
        writer.write(raw)
        answer = await asyncio.wait_for(reader.read(), TIMEOUT)
        head, _, body = answer.partition(b"\r\n\r\n")
        status, *lines = head.decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines)
        return int(status.split()[1]), headers, body

    async def get(self, path: str, method: str = "GET") -> tuple[int, str]:
        request = f"{method} {path} HTTP/1.1\r\nHost: test\r\n\r\n".encode()
        status, _, body = await self.send(request)
        return status, body.decode()


@pytest.fixture
def patience() -> float:
    """What the test's server gives a client: no client of most tests is to be cut off."""
    return TIMEOUT


cuts_off = pytest.mark.parametrize("patience", [PATIENCE])


@pytest.fixture
async def http(patience: float) -> AsyncIterator[Http]:
    made = Http(Metrics(operators=list))
    server = MetricsServer(
        made.metrics,
        lambda: made.ready,
        lambda: made.unwell,
        request_timeout=patience,
        max_connections=4,
    )
    made.port = await server.start("127.0.0.1", 0)
    yield made
    await server.stop()
    for writer in made.open:
        writer.close()
    with pytest.raises(OSError):
        await asyncio.open_connection("127.0.0.1", made.port)


async def test_metrics(http: Http) -> None:
    http.metrics.model("net", "1").frame_received().finish("ok")
    status, headers, body = await http.send(b"GET /metrics?x=1 HTTP/1.1\r\n\r\n")
    assert status == 200
    assert headers["content-type"].startswith("text/plain; version=")
    assert int(headers["content-length"]) == len(body)
    names = {family.name for family in text_string_to_metric_families(body.decode())}
    assert {"voxgate_frames", "voxgate_build_info"} <= names


async def test_ready(http: Http) -> None:
    assert await http.get("/readyz") == (200, "ready\n")
    http.ready = False
    assert await http.get("/readyz") == (503, "not ready\n")


async def test_live_until_there_is_a_reason(http: Http) -> None:
    http.ready = False
    assert await http.get("/livez") == (200, "ok\n")
    http.unwell = "model net version 1: a run has taken 31 s, the limit is 30 s"
    assert await http.get("/livez") == (503, http.unwell + "\n")
    http.unwell = None
    assert await http.get("/livez") == (200, "ok\n")


async def test_a_probe_that_fails_is_an_error(
    http: Http, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> bytes:
        raise RuntimeError("no text today")

    monkeypatch.setattr(http.metrics, "exposition", broken)
    assert (await http.get("/metrics"))[0] == 500
    assert "no text today" in caplog.text
    assert (await http.get("/livez"))[0] == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/", 404), ("GET", "/metricsx", 404), ("POST", "/metrics", 405), ("", "/", 405)],
)
async def test_what_is_not_served(http: Http, method: str, path: str, status: int) -> None:
    assert (await http.get(path, method))[0] == status


@pytest.mark.parametrize("path", ["/metrics", "/livez", "/nothing"])
async def test_head_is_get_without_the_body(http: Http, path: str) -> None:
    full = await http.send(f"GET {path} HTTP/1.1\r\n\r\n".encode())
    assert await http.send(f"HEAD {path} HTTP/1.1\r\n\r\n".encode()) == (*full[:2], b"")


@pytest.mark.parametrize("raw", [b"\x00\xff" * 40 + b"\r\n\r\n", b"\r\n\r\n", b"GET\r\n\r\n"])
async def test_rubbish_is_answered(http: Http, raw: bytes) -> None:
    assert (await http.send(raw))[0] in (404, 405)


async def test_a_head_without_an_end_is_refused(http: Http) -> None:
    status, _, _ = await http.send(b"GET /metrics HTTP/1.1\r\nX: " + b"x" * 9000)
    assert status == 431


@cuts_off
async def test_a_client_that_asks_too_slowly_is_cut_off(http: Http) -> None:
    reader, writer = await http.connect()
    writer.write(b"GET /livez HT")
    assert await asyncio.wait_for(reader.read(), TIMEOUT) == b""


@cuts_off
async def test_a_client_that_does_not_read_is_cut_off(
    http: Http, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = 1 << 26
    monkeypatch.setattr(http.metrics, "exposition", lambda: bytes(size))
    slow = socket.socket()
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    slow.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(slow, ("127.0.0.1", http.port))
    await loop.sock_sendall(slow, b"GET /metrics HTTP/1.1\r\n\r\n")
    others = [await http.get("/livez") for _ in range(3)]
    assert others == [(200, "ok\n")] * 3
    while len(asyncio.all_tasks()) > 1:  # until the server has given the client up
        await asyncio.sleep(0.01)
    received = 0
    try:
        while data := await asyncio.wait_for(loop.sock_recv(slow, 1 << 20), TIMEOUT):
            received += len(data)
    except ConnectionResetError:
        pass
    slow.close()
    assert 0 < received < size


async def test_many_silent_clients_do_not_keep_a_probe_out(http: Http) -> None:
    silent = [await http.connect() for _ in range(10)]
    assert await http.get("/livez") == (200, "ok\n")
    for reader, _ in silent[:6]:  # the oldest had to make room
        assert await asyncio.wait_for(reader.read(), TIMEOUT) == b""


async def test_the_text_is_made_off_the_event_loop(
    http: Http, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = threading.Event()
    monkeypatch.setattr(
        http.metrics, "exposition", lambda: b"late" if release.wait(TIMEOUT) else b""
    )
    scrape = asyncio.create_task(http.get("/metrics"))
    assert await http.get("/livez") == (200, "ok\n")
    release.set()
    assert await scrape == (200, "late")


async def test_a_port_in_use_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = MetricsServer(Metrics(operators=list), lambda: True)
        with pytest.raises(StartupError, match=f"127.0.0.1:{port}.*Address already in use"):
            await server.start("127.0.0.1", port)
        await server.stop()


async def test_a_host_that_does_not_exist_is_named() -> None:
    server = MetricsServer(Metrics(operators=list), lambda: True)
    with pytest.raises(
        StartupError, match="no.such.host.invalid:0 for metrics: .*(known|resolution)"
    ):
        await server.start("no.such.host.invalid", 0)
    await server.stop()


async def test_stopping_drops_what_is_open() -> None:
    server = MetricsServer(Metrics(operators=list), lambda: True)
    port = await server.start("127.0.0.1", 0)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /livez")
    await asyncio.sleep(0)
    await server.stop()
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        await asyncio.wait_for(reader.readexactly(1), TIMEOUT)
    writer.close()
