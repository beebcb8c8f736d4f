# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""A real server over loopback sockets, and a client that may send whatever it likes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from tests.server.driver import Client
from tests.server.model_folders import Bench, MakeBench, benches
from tests.server.models import points_model, refusing_model, voxel_model

from voxgate_server.app import App
from voxgate_server.engine import Engine, EngineOptions
from voxgate_server.settings import Settings

StartServer = Callable[..., Awaitable[Client]]
Load = Callable[..., Engine]


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    voxel_model(folder / "voxels" / "1" / "model.onnx")
    voxel_model(folder / "voxels" / "10" / "model.onnx", scale=3.0)
    voxel_model(folder / "lenient" / "1" / "model.onnx", allow_nonfinite=True)
    points_model(folder / "points" / "1" / "model.onnx")
    refusing_model(folder / "refusing" / "1" / "model.onnx")
    return folder


@pytest.fixture
async def start_server(model_folder: Path) -> AsyncIterator[StartServer]:
    """Starts servers with the given settings; after the test each must have counted every frame."""
    started: list[tuple[App, Client]] = []

    async def start(**settings: object) -> Client:
        values: dict[str, object] = {
            "models": model_folder,
            "host": "127.0.0.1",
            "port": 0,
            "metrics_port": 0,
            "threads": 1,
            "drain_timeout": 5.0,
            "poll_interval": 0.02,
        }
        app = App(Settings(**(values | settings)))  # type: ignore[arg-type]
        addresses = await app.start()
        client = Client(app, addresses)
        started.append((app, client))
        return client

    yield start
    for app, client in started:
        await client.close()
        await app.stop()
        received, finished = client.counted()
        assert received == finished
    await asyncio.sleep(0)


@pytest.fixture
async def client(start_server: StartServer) -> Client:
    return await start_server()


@pytest.fixture
def load() -> Iterator[Load]:
    """Loads models on one thread each, unless told otherwise; after the test each must close."""
    engines: list[Engine] = []

    def one(path: Path, **options: object) -> Engine:
        values: dict[str, object] = {"threads": 1} | options
        engines.append(Engine.load(path, EngineOptions(**values)))  # type: ignore[arg-type]
        return engines[-1]

    yield one
    for engine in engines:
        assert engine.close()


@pytest.fixture
async def make_bench(tmp_path: Path) -> AsyncIterator[MakeBench]:
    """Makes model folders with a repository over them."""
    async with benches(tmp_path / "models") as make:
        yield make


@pytest.fixture
async def bench(make_bench: MakeBench) -> Bench:
    return make_bench()
