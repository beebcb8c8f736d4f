# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""The answers of one stream on their way to its client, each counted once.

A frame counts as answered when gRPC has accepted its answer, and as cancelled when the call ended
before that.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from voxgate_server.admission import Hold
from voxgate_server.errors import Outcome, RequestError, outcome_of
from voxgate_server.logs import StreamLog
from voxgate_server.metrics import FrameCount, ModelMetrics

log = logging.getLogger(__name__)


class CallBroken(Exception):
    """The client is gone: nothing more can be read or written."""


@dataclass(frozen=True, slots=True)
class FrameEnd:
    """What is counted when a frame's answer has been accepted; `error` is None for a result."""

    frame_id: str
    count: FrameCount
    metrics: ModelMetrics
    error: RequestError | None = None
    captured_at: float | None = None


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message to write; `end` is None where it answers no frame."""

    raw: bytes
    end: FrameEnd | None = None


class Outbox:
    """Writes messages one after the other; lives on one event loop.

    Args:
        write: hands one message to gRPC; returns once it was accepted.
        hold: what the bytes of waiting answers are counted in.
        stream_log: keeps the stream's totals.
        max_unwritten: answers above this make the outbox `full`.
    """

    def __init__(
        self,
        write: Callable[[bytes], Awaitable[None]],
        hold: Hold,
        stream_log: StreamLog,
        max_unwritten: int,
    ) -> None:
        self.max_unwritten = max_unwritten
        self.writing_since: float | None = None  # monotonic; gRPC has not accepted it yet
        self._log = stream_log
        self._write = write
        self._hold = hold
        self._queue: asyncio.Queue[Outgoing | None] = asyncio.Queue()
        self._drained = asyncio.Event()
        self._unwritten = 0

    @property
    def full(self) -> bool:
        return self._unwritten > self.max_unwritten

    @property
    def overfull(self) -> bool:
        """Even for a frame that is arriving, which is otherwise read to its end."""
        return self._unwritten > 2 * self.max_unwritten

    def reserve(self, message: Outgoing) -> None:
        """Count a message as unwritten from now on, whether it is put now or, as a result that
        waits for older ones, later."""
        self._hold.add(len(message.raw))
        self._unwritten += 1

    def put(self, message: Outgoing) -> None:
        """Have a message written that has been reserved."""
        self._queue.put_nowait(message)

    def close(self) -> None:
        """Let `write_all` return once everything put so far is written."""
        self._queue.put_nowait(None)

    async def wait_until_drained(self) -> None:
        """Wait while the outbox is full."""
        while self.full:
            self._drained.clear()
            await self._drained.wait()

    async def write_all(self) -> None:
        """Write until closed.

        Raises:
            CallBroken: the client is gone; what is left is for `drop`.
        """
        while (message := await self._queue.get()) is not None:
            self._unwritten -= 1
            self.writing_since = time.monotonic()
            try:
                await self._write(message.raw)
            except Exception as error:  # gRPC raises its own, its core's and asyncio's here
                log.debug("stream cannot be written: %s", error)
                raise CallBroken from error
            else:
                self._accepted(message)
            finally:
                self.writing_since = None
                self._finish(message)
            if not self.full:
                self._drained.set()

    def drop(self) -> None:
        """Count what is left as cancelled: the call is over."""
        while not self._queue.empty():
            message = self._queue.get_nowait()
            if message is not None:
                self._finish(message)

    def count_cancelled(self, count: FrameCount) -> None:
        """Count a frame that gets no message, unless it has its outcome."""
        if count.finish("cancelled"):
            self._log.counted("cancelled")

    def _accepted(self, message: Outgoing) -> None:
        self._log.sent_bytes += len(message.raw)
        end = message.end
        if end is None:
            return
        end.metrics.add_sent_bytes(len(message.raw))
        outcome: Outcome = "ok" if end.error is None else outcome_of(end.error)
        if not end.count.finish(outcome):
            return
        if end.error is not None:
            self._log.failed(end.frame_id, end.error)
            return
        self._log.answered()
        if end.captured_at is not None:
            end.metrics.observe_age(time.time() - end.captured_at)

    def _finish(self, message: Outgoing) -> None:
        self._hold.remove(len(message.raw))
        if message.end is not None:
            self.count_cancelled(message.end.count)
