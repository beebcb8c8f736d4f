# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""`voxgate serve` as a child process on the loopback interface."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_STOP_SECONDS = 15


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(s.getsockname()[1]) for s in sockets]
    for s in sockets:
        s.close()
    return ports


@contextmanager
def serving(models: Path, threads: int, log: Path) -> Iterator[str]:
    """Start a server for a folder of models, yield its address, and stop it in the end.

    The server may still be loading when the address is handed over; what it prints goes to `log`.

    Raises:
        RuntimeError: the `voxgate` command is not installed beside this interpreter.
    """
    command = Path(sys.executable).parent / "voxgate"
    if not command.exists():
        raise RuntimeError(f"{command} does not exist: the service is not installed")
    port, metrics_port = _free_ports(2)
    arguments = ["--models", str(models), "--port", str(port), "--metrics-port", str(metrics_port)]
    settings = {"VOXGATE_HOST": "127.0.0.1", "VOXGATE_THREADS": str(threads)}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(command), "serve", *arguments],
            env={**os.environ, **settings},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            yield f"127.0.0.1:{port}"
        finally:
            process.terminate()
            try:
                process.wait(timeout=_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
