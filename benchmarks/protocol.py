# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Worker processes: method calls pickled over the pipes of a child process.

Each side of a comparison lives in a process of its own, so that neither sees the other's libraries,
thread pools or heap, and one sleeps in a read while the other works. Standard library only: both
interpreters import this file.
"""

from __future__ import annotations

import os
import pickle
import struct
import subprocess
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

_LENGTH = struct.Struct("<Q")


class WorkerError(RuntimeError):
    """A call failed inside a worker, or the worker died; the message holds its traceback."""


def _write(stream: BinaryIO, message: object) -> None:
    data = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    stream.write(_LENGTH.pack(len(data)))
    stream.write(data)
    stream.flush()


def _read(stream: BinaryIO) -> Any:
    header = stream.read(_LENGTH.size)
    if len(header) < _LENGTH.size:
        raise EOFError
    (length,) = _LENGTH.unpack(header)
    data = stream.read(length)
    if len(data) < length:
        raise EOFError
    return pickle.loads(data)


def serve(handler: object) -> None:
    """Answer calls of `handler`'s public methods until the parent closes the pipe.

    File descriptor 1 is pointed at standard error first: a library that prints must not be able to
    write into the protocol.
    """
    requests = sys.stdin.buffer
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    while True:
        try:
            method, arguments = _read(requests)
        except EOFError:
            return
        try:
            answer = (True, getattr(handler, method)(**arguments))
        except Exception:  # everything a method raises belongs to the caller
            answer = (False, traceback.format_exc())
        _write(answers, answer)


class Worker:
    """A child process that runs `serve`; use as a context manager."""

    def __init__(
        self,
        python: Path | str,
        module: str,
        root: Path,
        environment: dict[str, str] | None = None,
        arguments: Sequence[str] = (),
    ) -> None:
        command = [str(python), "-m", module, *arguments]
        self.name = module
        self._process = subprocess.Popen(
            command,
            cwd=root,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def call(self, method: str, **arguments: Any) -> Any:
        """Run one method in the worker.

        Raises:
            WorkerError: the method raised, or the process is gone.
        """
        if self._process.stdin is None or self._process.stdout is None:
            raise WorkerError(f"{self.name}: no pipes")
        try:
            _write(self._process.stdin, (method, arguments))  # type: ignore[arg-type]
            done, value = _read(self._process.stdout)  # type: ignore[arg-type]
        except (EOFError, BrokenPipeError):
            code = self._process.wait()
            raise WorkerError(f"{self.name}.{method}: the process ended with code {code}") from None
        if not done:
            raise WorkerError(f"{self.name}.{method} failed:\n{value}")
        return value

    def close(self) -> None:
        """Close the pipes, which ends the worker, and wait for it."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
