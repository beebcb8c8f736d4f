# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Serving processes for tests of what goes wrong; each ends with its metrics in balance."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.end_to_end.faults.process import ServerProcess, server_process
from tests.server.models import voxel_model

StartProcess = Callable[..., Awaitable[ServerProcess]]


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the model `voxels`."""
    folder = tmp_path_factory.mktemp("models")
    voxel_model(folder / "voxels" / "1" / "model.onnx")
    return folder


@pytest.fixture
async def start_process(model_folder: Path, tmp_path: Path) -> AsyncIterator[StartProcess]:
    """Starts servers with the given settings; after the test each must have counted every frame."""
    started: list[ServerProcess] = []
    with ExitStack() as stack:

        async def start(models: Path = model_folder, **settings: object) -> ServerProcess:
            log_file = tmp_path / f"server-{len(started)}.log"
            server = stack.enter_context(server_process(models, log_file, **settings))
            started.append(server)
            return server

        yield start
        for server in started:
            if server.process.poll() is None:
                await server.balanced()
