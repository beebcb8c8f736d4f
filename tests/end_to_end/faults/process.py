# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""A serving process, seen from outside: its port, its metrics and probes, its log and its times."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from prometheus_client.parser import text_string_to_metric_families
from tests.server.driver import Stream
from tests.server.test_commands import COMMAND

PATIENCE = 20.0
_POLL = 0.02


class Scrape:
    """What /metrics said. It is read metric by metric while the server goes on counting: of things
    that happened meanwhile some may be in it and others not."""

    def __init__(self, text: str) -> None:
        self._samples = [
            s for family in text_string_to_metric_families(text) for s in family.samples
        ]

    def total(self, name: str, **labels: str) -> float:
        """The sum of a metric over all its samples with these labels; 0 where there are none."""
        return sum(
            sample.value
            for sample in self._samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def outcomes(self, **labels: str) -> dict[str, float]:
        """Frames by outcome over all models, the zeros left out."""
        return self.by("voxgate_frames_total", "outcome", **labels)

    def by(self, name: str, label: str, **labels: str) -> dict[str, float]:
        """A metric's sums by `label` over its samples with `labels`, the zeros left out."""
        totals: dict[str, float] = {}
        for sample in self._samples:
            counted = sample.name == name and sample.value
            if counted and labels.items() <= sample.labels.items():
                key = sample.labels[label]
                totals[key] = totals.get(key, 0) + sample.value
        return totals

    @property
    def received(self) -> float:
        return self.total("voxgate_frames_received_total")

    @property
    def in_flight_bytes(self) -> float:
        return self.total("voxgate_in_flight_bytes")

    @property
    def balanced(self) -> bool:
        """Every frame received has one outcome, and nothing is left in flight."""
        return (
            self.received == sum(self.outcomes().values())
            and self.total("voxgate_frames_in_flight") == 0
            and self.in_flight_bytes == 0
        )

    def __str__(self) -> str:
        in_flight = self.total("voxgate_frames_in_flight")
        return (
            f"received {self.received:g}, outcomes {self.outcomes()}, in flight {in_flight:g} "
            f"frames, {self.in_flight_bytes:g} bytes, streams closed "
            f"{self.by('voxgate_streams_closed_total', 'code')}"
        )


@dataclass(frozen=True)
class ServerProcess:
    """A running `voxgate serve`."""

    process: subprocess.Popen[str]
    target: str
    metrics_port: int
    log_file: Path

    def http(self, path: str) -> tuple[int, str]:
        """Status and body of a request to the metrics port."""
        url = f"http://127.0.0.1:{self.metrics_port}{path}"
        try:
            with urllib.request.urlopen(url, timeout=PATIENCE) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def scrape(self) -> Scrape:
        status, text = self.http("/metrics")
        assert status == 200
        return Scrape(text)

    async def until(
        self, condition: Callable[[Scrape], bool], what: str, patience: float = PATIENCE
    ) -> Scrape:
        """A scrape begun after one of which `condition` held: all that came before it is there."""
        await self._poll(self.scrape, condition, what, patience)
        return await asyncio.to_thread(self.scrape)

    async def until_live(self, status: int, patience: float = PATIENCE) -> str:
        """The body of the first /livez that answers with `status`."""
        _, body = await self._poll(
            lambda: self.http("/livez"), lambda a: a[0] == status, f"/livez {status}", patience
        )
        return str(body)

    async def balanced(self, patience: float = PATIENCE) -> Scrape:
        """A scrape after every frame was counted and nothing was in flight."""
        return await self.until(lambda scrape: scrape.balanced, "balanced metrics", patience)

    @staticmethod
    async def _poll(
        ask: Callable[[], Any], condition: Callable[[Any], bool], what: str, patience: float
    ) -> Any:
        end = time.monotonic() + patience
        while True:
            answer = await asyncio.to_thread(ask)
            if condition(answer):
                return answer
            assert time.monotonic() < end, f"no {what} in {patience:g} s, but {answer}"
            await asyncio.sleep(_POLL)

    def channel(self, *options: tuple[str, Any], target: str = "") -> grpc.aio.Channel:
        """A channel with a connection of its own, to the server or to what stands before it."""
        local = ("grpc.use_local_subchannel_pool", 1)
        unlimited = ("grpc.max_receive_message_length", -1)
        return grpc.aio.insecure_channel(target or self.target, (local, unlimited, *options))

    @property
    def cpu_seconds(self) -> float:
        """What the process has had of the cores so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def resident_bytes(self) -> int:
        fields = Path(f"/proc/{self.process.pid}/statm").read_text().split()
        return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")

    @property
    def log(self) -> str:
        """What the server has logged so far."""
        return self.log_file.read_text()

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    async def exit_code(self, patience: float = PATIENCE) -> int:
        """Wait for the process to end."""
        return await asyncio.to_thread(self.process.wait, patience)


@contextmanager
def server_process(models: Path, log_file: Path, **settings: object) -> Iterator[ServerProcess]:
    """Start `voxgate serve`, and kill it in the end if it still runs."""
    given: dict[str, object] = {
        "models": models,
        "host": "127.0.0.1",
        "port": 0,
        "metrics_port": 0,
        "threads": 1,
        "poll_interval": 0,
        "drain_timeout": 5,
    }
    environment = {f"VOXGATE_{k.upper()}": str(v) for k, v in (given | settings).items()}
    with log_file.open("w") as stderr:
        process = subprocess.Popen(
            COMMAND,
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
    giving_up = threading.Timer(60, process.kill)
    giving_up.start()
    try:
        assert process.stdout is not None
        metrics_port = 0
        for line in process.stdout:
            name, _, value = line.strip().partition(": ")
            if name == "metrics":
                metrics_port = int(value.rpartition(":")[2].partition("/")[0])
            if name == "serving":
                giving_up.cancel()
                yield ServerProcess(process, value, metrics_port, log_file)
                break
        else:
            raise AssertionError(f"the server ended without serving: {log_file.read_text()}")
    finally:
        giving_up.cancel()
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


async def opened(channel: grpc.aio.Channel, model: str = "voxels", **fields: Any) -> Stream:
    """A stream on `channel` that the server has accepted."""
    stream = Stream(channel)
    await stream.open(model, **fields)
    return stream
