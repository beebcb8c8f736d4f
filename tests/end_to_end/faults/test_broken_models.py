# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Broken and half-written models dropped into a served folder: what served before does so still."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
import pytest
from tests.end_to_end.faults.conftest import StartProcess
from tests.end_to_end.faults.load import LoadedStream, loaded_streams
from tests.end_to_end.faults.model_files import (
    POLL_INTERVAL,
    model_bytes,
    rename_in,
    replace_file,
)
from tests.end_to_end.faults.process import PATIENCE, ServerProcess
from tests.server.driver import TIMEOUT

from voxgate_protos import voxel_inference_pb2 as pb
from voxgate_protos import voxel_inference_pb2_grpc as pb_grpc

# A file that grows is seen to do so as long as it does not rest for this long.
SLOW_POLL_INTERVAL = 0.5
OPENINGS = [{}, {"chunked": True}]


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A folder with version 1 of `voxels`, of scale 2."""
    folder = tmp_path / "models"
    rename_in(folder, "voxels", 1, model=model_bytes(folder, scale=2))
    return folder


@dataclass
class Watched:
    """A server under load, and what it says of its models."""

    server: ServerProcess
    stub: pb_grpc.VoxelInferenceStub
    streams: list[LoadedStream]
    failed: int = 0
    loaded: int = 1

    async def listed(self) -> dict[tuple[str, str], str]:
        """The reason of every version's every state."""
        answer = await self.stub.ListModels(pb.ListModelsRequest(), timeout=TIMEOUT)
        name = pb.ModelInfo.State.Name
        return {(m.version, name(m.state)): m.state_reason for m in answer.models}

    async def fails(self, version: str, *, serving: str, scale: float) -> str:
        """Wait until a version is FAILED; gives the reason. What serves goes on."""
        self.failed += 1
        end = time.monotonic() + PATIENCE
        while (version, "FAILED") not in (listed := await self.listed()):
            assert time.monotonic() < end, f"no FAILED version {version} but {listed}"
            await asyncio.sleep(0.02)
        assert (serving, "READY") in listed
        await self._counted()
        await self._answers(serving, scale)
        return listed[version, "FAILED"]

    async def goes_in(self, version: str, *, scale: float) -> None:
        """Wait until a version answers every stream, and is no longer FAILED."""
        self.loaded += 1
        for stream in self.streams:
            reloads = self.loaded - 1
            await stream.until(lambda s, n=reloads: len(s.reloads) == n, f"version {version}")
        listed = await self.listed()
        assert (version, "READY") in listed and (version, "FAILED") not in listed
        await self._counted()
        await self._answers(version, scale)

    async def _counted(self) -> None:
        await self.server.until(
            lambda now: (
                now.total("voxgate_model_loads_total", model="voxels", outcome="ok") == self.loaded
                and now.total("voxgate_model_loads_total", outcome="failed") == self.failed
            ),
            f"{self.loaded} loads and {self.failed} failed ones",
        )

    async def _answers(self, version: str, scale: float) -> None:
        for stream in self.streams:
            await stream.more()
            assert not stream.errors, stream
            last = list(stream.results)[-1]
            assert (stream.results[last].version, stream.scale(last)) == (version, scale)


async def test_a_broken_model_leaves_the_old_one_and_goes_in_when_it_is_repaired(
    start_process: StartProcess, models: Path
) -> None:
    server = await start_process(models, poll_interval=POLL_INTERVAL)
    async with server.channel() as channel, loaded_streams(server, OPENINGS) as streams:
        watched = Watched(server, pb_grpc.VoxelInferenceStub(channel), streams)

        # A new version whose file is cut off, renamed in.
        whole = model_bytes(models, scale=3)
        rename_in(models, "voxels", 2, model=whole[: len(whole) // 2])
        reason = await watched.fails("2", serving="1", scale=2)
        assert "voxels/2/model.onnx" in reason and f"{len(whole) // 2} bytes" in reason
        replace_file(models, "voxels", 2, model=whole)
        await watched.goes_in("2", scale=3)

        # The file of the version that serves, overwritten in place.
        (models / "voxels" / "2" / "model.onnx").write_bytes(b"no model" * 100)
        assert "voxels/2/model.onnx" in await watched.fails("2", serving="2", scale=3)
        replace_file(models, "voxels", 2, model=model_bytes(models, scale=4))
        await watched.goes_in("2", scale=4)

        # A good model with a config.yaml that is none.
        content = model_bytes(models, scale=5)
        rename_in(models, "voxels", 3, model=content, config=b"max_batch_size: 3\n")
        reason = await watched.fails("3", serving="2", scale=4)
        assert "voxels/3/config.yaml" in reason and "max_batch_size" in reason
        replace_file(models, "voxels", 3, config=b"max_batch_frames: 3\n")
        await watched.goes_in("3", scale=5)

        # A file half written in place, then the other half.
        content = model_bytes(models, scale=6)
        (models / "voxels" / "4").mkdir()
        with (models / "voxels" / "4" / "model.onnx").open("wb", buffering=0) as file:
            file.write(content[: len(content) // 2])
            assert "voxels/4/model.onnx" in await watched.fails("4", serving="3", scale=5)
            file.write(content[len(content) // 2 :])
        await watched.goes_in("4", scale=6)

    for stream in streams:
        assert stream.code is grpc.StatusCode.OK and not stream.errors and not stream.unanswered
        assert stream.reloads == ["2", "2", "3", "4"]
    counted = await server.balanced()
    assert counted.outcomes() == {"ok": sum(len(stream.sent) for stream in streams)}
    assert server.log.count("failed to load") == watched.failed


async def test_a_file_that_grows_slowly_is_not_read_before_it_is_whole(
    start_process: StartProcess, models: Path
) -> None:
    server = await start_process(models, poll_interval=SLOW_POLL_INTERVAL)
    async with server.channel() as channel, loaded_streams(server, OPENINGS) as streams:
        watched = Watched(server, pb_grpc.VoxelInferenceStub(channel), streams)
        for version in ("2", "3", "4", "5"):
            failed = server.scrape().total("voxgate_model_loads_total", outcome="failed")
            content = model_bytes(models, scale=int(version) + 1)
            rested = await grow(models / "voxels" / version / "model.onnx", content)
            listed = await watched.listed()
            if rested < SLOW_POLL_INTERVAL:
                break  # else this machine was too busy to write it steadily
        assert ("1", "READY") in listed
        assert (version, "FAILED") not in listed
        for stream in streams:
            await stream.until(lambda s: version in s.reloads, f"version {version}")
            await stream.more()
            last = list(stream.results)[-1]
            assert (stream.results[last].version, stream.scale(last)) == (version, int(version) + 1)
        assert server.scrape().total("voxgate_model_loads_total", outcome="failed") == failed
    for stream in streams:
        assert not stream.errors and not stream.unanswered, stream
    await server.balanced()


async def grow(path: Path, content: bytes) -> float:
    """Write a file bit by bit over several looks; gives the longest rest in seconds."""
    path.parent.mkdir()
    rested = 0.0
    last = time.monotonic()
    with path.open("wb", buffering=0) as file:
        for piece in np.array_split(np.frombuffer(content, np.uint8), 32):
            file.write(piece.tobytes())
            now = time.monotonic()
            rested, last = max(rested, now - last), now
            await asyncio.sleep(SLOW_POLL_INTERVAL / 8)
    return rested
