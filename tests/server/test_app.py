# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Signals, and what a server does when one comes before it has started or while it stops."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from voxgate_server import app
from voxgate_server.engine import Engine
from voxgate_server.errors import StartupError
from voxgate_server.settings import Settings

load = Engine.load


@pytest.fixture(autouse=True)
def process() -> Iterator[None]:
    """As it was before `serve`, which has it to itself."""
    interval = sys.getswitchinterval()
    yield
    sys.setswitchinterval(interval)
    gc.unfreeze()


def settings(folder: Path, **changed: Any) -> Settings:
    values: dict[str, Any] = {"models": folder, "host": "127.0.0.1", "port": 0, "metrics_port": 0}
    return Settings(**(values | changed))


async def test_a_signal_during_the_start_ends_it(model_folder: Path, monkeypatch) -> None:
    loading, closing = threading.Event(), threading.Event()
    loads: list[object] = []

    def slow(path: Path, options: Any) -> Engine:
        loads.append(path)
        loading.set()
        assert closing.wait(10)
        return load(path, options)

    async def close(repository: app.Repository) -> None:
        asyncio.get_running_loop().call_soon(closing.set)  # once it has begun
        await close_repository(repository)

    close_repository = app.Repository.close
    monkeypatch.setattr(app.Repository, "close", close)
    monkeypatch.setattr(app.Repository.__init__, "__defaults__", (slow,))
    announced: list[object] = []
    serving = asyncio.create_task(
        app.serve(settings(model_folder), lambda *started: announced.append(started))
    )
    assert await asyncio.to_thread(loading.wait, 20)
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(serving, 20)
    assert (len(loads), announced) == (1, [])


async def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="is not a folder"):
        await app.serve(settings(tmp_path / "none"), lambda *_: None)


async def test_a_stop_that_fails_is_logged(model_folder: Path, monkeypatch, caplog) -> None:
    async def broken(_: app.App) -> None:
        await stop(_)
        raise ZeroDivisionError

    stop = app.App.stop
    monkeypatch.setattr(app.App, "stop", broken)
    started = asyncio.Event()
    serving = asyncio.create_task(app.serve(settings(model_folder), lambda *_: started.set()))
    await asyncio.wait_for(started.wait(), 20)
    with caplog.at_level(logging.ERROR):
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(serving, 10)
    assert "did not stop cleanly" in caplog.text
