# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""`make demo`: export a network, serve it, stream sweeps through it, show the answers, stop.

Every step is a `voxgate` command, printed before it runs, to be repeated by hand.
"""

from __future__ import annotations

import argparse
import os
import queue
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import IO

REPOSITORY = Path(__file__).resolve().parents[1]
VOXGATE = Path(sys.executable).with_name("voxgate")
MODEL = "sparse_unet"
START_TIMEOUT_S = 180.0
STOP_TIMEOUT_S = 30.0


class DemoError(Exception):
    """A step failed; the message says which and what to do."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the demo and returns its exit status."""
    options = _parse(arguments)
    signal.signal(signal.SIGTERM, _exit_on_sigterm)
    try:
        if not VOXGATE.is_file():
            raise DemoError(f"{VOXGATE} is missing: run this as `make demo`, which installs it")
        _export(options.models / MODEL / "1" / "model.onnx")
        with serving(options.models) as (target, metrics_url):
            status = _stream(target, options)
            _show_metrics(metrics_url)
        _say("stopped the server")
        _say(
            "The weights are seeded, not trained: the path is real, the labels mean nothing yet. "
            "Give voxgate export a --checkpoint for ones that do."
        )
    except DemoError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ndemo: interrupted, everything is stopped", file=sys.stderr)
        return 130
    return status


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("files", nargs="*", type=Path, help="scans; simulated sweeps if none")
    parser.add_argument("--frames", type=int, default=20, help="simulated sweeps to send")
    parser.add_argument("--columns", type=int, help="float32 per point of .bin files")
    parser.add_argument("--models", type=Path, default=REPOSITORY / "models")
    return parser.parse_args(arguments)


def _exit_on_sigterm(number: int, frame: FrameType | None) -> None:
    # As an exception, so that every `with` and `finally` on the way out stops its child.
    raise SystemExit(128 + number)


def _say(text: str) -> None:
    print(f"\n# {text}", flush=True)


def _show(command: Sequence[str | Path]) -> None:
    words = [Path(command[0]).name, *map(str, command[1:])]
    print(f"$ {shlex.join(words)}", flush=True)


def _export(path: Path) -> None:
    """Exports the network unless it is there (voxgate export leaves no half-written file)."""
    if path.is_file():
        _say(f"{path} is there already, exported by an earlier run")
        return
    _say(f"Exporting {MODEL} with seeded weights (once; about half a minute)")
    command: list[str | Path] = [VOXGATE, "export", MODEL, path, "--points"]
    path.parent.mkdir(parents=True, exist_ok=True)
    _show(command)
    status = subprocess.run(command, check=False).returncode
    if status:
        raise DemoError(f"voxgate export failed with status {status}")


@contextmanager
def serving(models: Path) -> Iterator[tuple[str, str]]:
    """A server on free ports of this machine, as (target, metrics URL); stopped on leaving."""
    command: list[str | Path] = [VOXGATE, "serve", "--models", models, "--host", "127.0.0.1"]
    command += ["--port", "0", "--metrics-port", "0"]
    _say("Starting the server")
    _show(command)
    with tempfile.TemporaryFile("w+") as log:
        # Its own session: a Ctrl-C here must reach it once, from us, so that it can still drain.
        server = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True
        )
        try:
            yield _wait_ready(server, log)
        finally:
            _stop(server)


def _wait_ready(server: subprocess.Popen[str], log: IO[str]) -> tuple[str, str]:
    lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def read() -> None:
        assert server.stdout is not None
        for line in server.stdout:
            lines.put(line.rstrip())
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    metrics_url = ""
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            line = lines.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            raise DemoError(f"the server was not ready in {START_TIMEOUT_S:.0f} s") from None
        if line is None:
            log.seek(0)
            raise DemoError(f"the server ended with status {server.wait()}:\n{log.read()[-4000:]}")
        print(f"  {line}", flush=True)
        key, _, value = line.partition(": ")
        if key.startswith(f"model {MODEL} ") and value.startswith("FAILED"):
            raise DemoError(f"{line}\ndelete the folder {MODEL} of the models and run again")
        if key == "metrics":
            metrics_url = value
        elif key == "serving":
            return value, metrics_url


def _stop(server: subprocess.Popen[str]) -> None:
    """SIGTERM drains; a server that does not end is killed with all it started."""
    server.terminate()
    try:
        server.wait(STOP_TIMEOUT_S)
    except BaseException as error:  # also a second Ctrl-C: nothing may stay behind
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
        if isinstance(error, subprocess.TimeoutExpired):
            message = f"the server did not end in {STOP_TIMEOUT_S:.0f} s and was killed"
            raise DemoError(message) from error
        raise


def _stream(target: str, options: argparse.Namespace) -> int:
    command: list[str | Path] = [VOXGATE, "stream", *options.files]
    command += ["--target", target, "--model", MODEL]
    if options.columns is not None:
        command += ["--columns", str(options.columns)]
    if not options.files:
        command += ["--simulate", str(options.frames)]
    _say("Streaming sweeps, one after the other")
    _show(command)
    return subprocess.run(command, check=False).returncode


def _show_metrics(url: str) -> None:
    _say(f"What Prometheus would scrape from {url} (an excerpt)")
    try:
        with urllib.request.urlopen(url, timeout=10) as response:
            text = response.read().decode()
    except OSError as error:
        raise DemoError(f"the metrics cannot be read: {error}") from error
    for line in text.splitlines():
        if line.startswith("voxgate_frames_total{") and not line.endswith(" 0.0"):
            print(f"  {line}")


if __name__ == "__main__":
    sys.exit(main())
