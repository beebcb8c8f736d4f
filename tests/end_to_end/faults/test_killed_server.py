# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""SIGKILL and a new server on the same port: the caller sees each frame answered exactly once."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tests.end_to_end.faults.conftest import StartProcess
from tests.end_to_end.faults.picky_model import picky_model
from tests.end_to_end.faults.process import PATIENCE
from tests.server.driver import random_sites

from voxgate_client import (
    AsyncVoxgateClient,
    Backoff,
    Frame,
    FrameFailure,
    FrameResult,
    VoxgateClient,
)

QUICK = Backoff(initial=0.02, maximum=0.1)
MAX_IN_FLIGHT = 8
ENOUGH = 20


@dataclass
class Caller:
    """A stream's user who sends frames until told to stop, and notes what comes back."""

    resend: bool
    sent: list[str] = field(default_factory=list)
    answers: list[FrameResult | FrameFailure] = field(default_factory=list)
    stream: Any = None
    stopped: bool = False

    @property
    def options(self) -> dict[str, Any]:
        return {"reconnect": QUICK, "resend": self.resend, "max_in_flight": MAX_IN_FLIGHT}

    def frame(self) -> Frame:
        number = len(self.sent)
        self.sent.append(f"{number}")
        coords, features = random_sites(9, number)
        return Frame(coords=coords, features=features, frame_id=f"{number}")

    @property
    def results(self) -> list[FrameResult]:
        return [answer for answer in self.answers if isinstance(answer, FrameResult)]


class SyncCaller(Caller):
    """Sends on one thread and receives on another."""

    async def run(self, target: str) -> None:
        await asyncio.to_thread(self._run, target)

    def _run(self, target: str) -> None:
        with (
            VoxgateClient(target) as client,
            client.open_stream("voxels", **self.options) as self.stream,
        ):
            receiver = threading.Thread(target=lambda: self.answers.extend(self.stream))
            receiver.start()
            while not self.stopped:
                self.stream.send(self.frame(), timeout=PATIENCE)
            self.stream.close_sending()
            receiver.join(PATIENCE)


class AsyncCaller(Caller):
    """Sends in one task and receives in another."""

    async def run(self, target: str) -> None:
        async with (
            AsyncVoxgateClient(target) as client,
            await client.open_stream("voxels", **self.options) as self.stream,
        ):
            receiver = asyncio.create_task(self._receive())
            async with asyncio.timeout(3 * PATIENCE):
                while not self.stopped:
                    await self.stream.send(self.frame())
                await self.stream.close_sending()
                await receiver

    async def _receive(self) -> None:
        async for answer in self.stream:
            self.answers.append(answer)


async def until(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"no {what} in {PATIENCE:g} s"
        await asyncio.sleep(0.01)


async def test_each_frame_is_answered_once_across_sigkill_and_restart(
    start_process: StartProcess, tmp_path: Path
) -> None:
    picky_model(tmp_path / "models" / "voxels" / "1" / "model.onnx")
    server = await start_process(tmp_path / "models")
    callers = [kind(resend) for kind in (SyncCaller, AsyncCaller) for resend in (False, True)]
    async with asyncio.TaskGroup() as running:
        for caller in callers:
            running.create_task(caller.run(server.target))
        await until(lambda: all(len(c.results) >= ENOUGH for c in callers), "first answers")
        server.process.send_signal(signal.SIGSTOP)
        full = "streams with all they may have unanswered"
        await until(lambda: all(c.stream.num_unanswered == MAX_IN_FLIGHT for c in callers), full)
        server.process.kill()
        await server.exit_code()
        before = [len(c.results) for c in callers]
        server = await start_process(
            tmp_path / "models", port=int(server.target.rpartition(":")[2])
        )
        await until(
            lambda: all(
                len(c.results) >= b + MAX_IN_FLIGHT + ENOUGH
                for c, b in zip(callers, before, strict=True)
            ),
            "answers of the new server",
        )
        for caller in callers:
            caller.stopped = True

    for caller in callers:
        assert Counter(a.frame_id for a in caller.answers) == Counter(caller.sent)
        codes = {a.code.name for a in caller.answers if isinstance(a, FrameFailure)}
        assert codes == (set() if caller.resend else {"UNAVAILABLE"}), caller
        for result in caller.results:
            coords, features = random_sites(9, int(result.frame_id))
            expected = 2 * features[:, 0] + coords[:, 1]
            np.testing.assert_allclose(result.outputs["score"], expected, rtol=1e-5, atol=1e-5)
        kinds = [notice.kind for notice in caller.stream.notices]
        assert kinds.count("RECONNECTED") == 1 and kinds[-1] == "RECONNECTED", kinds
    counted = await server.balanced()
    assert counted.outcomes().keys() == {"ok"}
