# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""`voxgate serve` as a child process on the loopback interface."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_STOP_SECONDS = 15


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(s.getsockname()[1]) for s in sockets]
    for s in sockets:
        s.close()
    return ports


@dataclass(frozen=True)
class Server:
    """A server that was started: its gRPC address and its process."""

    target: str
    pid: int


@contextmanager
def serving(
    models: Path, threads: int, log: Path, settings: dict[str, str] | None = None
) -> Iterator[Server]:
    """Start a server for a folder of models, and stop it in the end.

    It may still be loading when its address is handed over; what it prints goes to `log`.
    `settings` are variables of its environment.

    Raises:
        RuntimeError: the `voxgate` command is not installed beside this interpreter.
    """
    command = Path(sys.executable).parent / "voxgate"
    if not command.exists():
        raise RuntimeError(f"{command} does not exist: the service is not installed")
    port, metrics_port = _free_ports(2)
    arguments = ["--models", str(models), "--port", str(port), "--metrics-port", str(metrics_port)]
    given = {"VOXGATE_HOST": "127.0.0.1", "VOXGATE_THREADS": str(threads), **(settings or {})}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(command), "serve", *arguments],
            env={**os.environ, **given},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            yield Server(f"127.0.0.1:{port}", process.pid)
        finally:
            process.terminate()
            try:
                process.wait(timeout=_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
