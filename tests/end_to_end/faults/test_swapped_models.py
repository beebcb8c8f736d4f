# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Models swapped, taken out, unloaded and loaded under load: no frame is lost or fails for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import groupby
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from tests.end_to_end.faults.conftest import StartProcess
from tests.end_to_end.faults.load import NOT_FOUND, LoadedStream, loaded_streams
from tests.end_to_end.faults.model_files import (
    POLL_INTERVAL,
    model_bytes,
    rename_in,
    replace_file,
    take_out,
)
from tests.end_to_end.faults.process import ServerProcess, opened
from tests.server.driver import TIMEOUT, arrays, chunks, frame, reserved_port

from voxgate_protos import admin_pb2 as admin_pb
from voxgate_protos import admin_pb2_grpc as admin_grpc
from voxgate_protos import voxel_inference_pb2 as pb
from voxgate_protos import voxel_inference_pb2_grpc as pb_grpc

TOKEN = "a-token-of-an-operator"
OPENINGS: list[dict[str, Any]] = [{}, {"unordered": True}, {"chunked": True}]


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A folder with version 1 of `voxels`, of scale 2."""
    folder = tmp_path / "models"
    rename_in(folder, "voxels", 1, model=model_bytes(folder, scale=2))
    return folder


@pytest.fixture
def admin_port() -> Iterator[int]:
    with reserved_port() as port:
        yield port


def phases(stream: LoadedStream) -> list[tuple[str, float]]:
    """Version and scale of the results in the order the frames were sent, repeats left out."""
    results = [(stream.results[i].version, stream.scale(i)) for i in stream.sent]
    return [phase for phase, _ in groupby(results)]


@asynccontextmanager
async def calls(server: ServerProcess, versions: list[str]) -> AsyncIterator[None]:
    """Calls of Infer, one after the other; `versions` gets which version answered each."""
    running = True

    async def call() -> None:
        async with server.channel() as channel:
            stub = pb_grpc.VoxelInferenceStub(channel)
            while running:
                request = pb.InferRequest(model="voxels", frame=frame("unary"))
                versions.append((await stub.Infer(request, timeout=TIMEOUT)).version)

    task = asyncio.create_task(call())
    try:
        yield
    finally:
        running = False
        await task


async def test_a_new_version_and_replaced_files_take_over_under_load(
    start_process: StartProcess, models: Path
) -> None:
    server = await start_process(models, poll_interval=POLL_INTERVAL)
    called: list[str] = []
    openings = [*OPENINGS, {"version": "1"}]
    async with calls(server, called), loaded_streams(server, openings) as streams:
        *following, pinned = streams
        for stream in streams:
            await stream.more()
        rename_in(models, "voxels", 2, model=model_bytes(models, scale=3))
        for stream in following:
            await stream.until(lambda s: s.reloads == ["2"], "notice of version 2")
        for stream in streams:
            await stream.more()
        replace_file(models, "voxels", 2, model=model_bytes(models, scale=4))
        for stream in following:
            await stream.until(lambda s: s.reloads == ["2", "2"], "notice of the new files")
        for stream in streams:
            await stream.more()
        take_out(models, "voxels", 1)
        await pinned.until(lambda s: len(s.errors) >= 10, "answers without the version")
        for stream in following:
            await stream.more()

    for stream in following:
        assert stream.code is grpc.StatusCode.OK and not stream.unanswered
        assert not stream.errors, stream
        assert phases(stream) == [("1", 2), ("2", 3), ("2", 4)]
        assert stream.reloads == ["2", "2"]
    assert pinned.code is grpc.StatusCode.OK and not pinned.unanswered
    assert {error.code for error in pinned.errors.values()} == {NOT_FOUND}, pinned
    assert all("version 1 " in error.message for error in pinned.errors.values())
    sent = list(pinned.sent)
    assert set(sent[: len(pinned.results)]) == pinned.results.keys()
    assert {pinned.scale(frame_id) for frame_id in pinned.results} == {2}
    assert not pinned.reloads
    assert [version for version, _ in groupby(called)] == ["1", "2"]

    counted = await server.balanced()
    assert counted.outcomes(version="2").keys() == {"ok"}
    assert counted.outcomes(version="1")["invalid"] == len(pinned.errors)
    assert counted.outcomes().keys() == {"ok", "invalid"}
    loads = counted.total("voxgate_model_loads_total", model="voxels", outcome="ok")
    assert (loads, counted.total("voxgate_model_loads_total")) == (3, 3)
    ready = [counted.total("voxgate_model_ready", version=v) for v in ("1", "2")]
    assert ready == [0, 1]


async def test_a_frame_that_is_arriving_stays_with_the_version_it_began_with(
    start_process: StartProcess, models: Path
) -> None:
    server = await start_process(models, poll_interval=POLL_INTERVAL, chunk_timeout=60)
    whole = frame("slow", 6)
    pieces = chunks(whole, [3, 3])
    async with server.channel() as channel:
        slow, cancelling = [await opened(channel, outputs=["score"]) for _ in range(2)]
        for stream in (slow, cancelling):
            await stream.send(chunk=pieces[0])
        arrived = 2 * pb.StreamRequest(chunk=pieces[0]).ByteSize()
        await server.until(
            lambda now: now.total("voxgate_received_bytes_total") == arrived, "first chunks"
        )
        async with loaded_streams(server, OPENINGS) as loaded:
            replace_file(models, "voxels", 1, model=model_bytes(models, scale=3))
            for load in loaded:
                await load.until(lambda s: s.reloads, "notice of the new files")
                await load.more()
        await cancelling.send(cancel_frame_id="another")
        for stream in (slow, cancelling):
            assert (await stream.read()).notice.kind == pb.ServerNotice.MODEL_RELOADED
            await stream.send(chunk=pieces[1])
            await stream.send(frame=frame("next", 6))
            old, new = await stream.result(), await stream.result()
            assert (old.frame_id, new.frame_id) == ("slow", "next")
            # The two frames are the same sites: their answers differ by the scales alone.
            first = np.frombuffer(whole.voxels.features, np.float32)[::2]
            difference = arrays(new)["score"] - arrays(old)["score"]
            np.testing.assert_allclose(difference, (3 - 2) * first, atol=1e-5)
            await stream.finish()
    for load in loaded:
        assert not load.errors, load
        assert phases(load) == [("1", 2), ("1", 3)]
    assert (await server.balanced()).outcomes().keys() == {"ok"}


async def test_an_operator_unloads_reloads_and_loads_under_load(
    start_process: StartProcess, models: Path, admin_port: int
) -> None:
    server = await start_process(models, admin_port=admin_port, admin_token=TOKEN)
    asked = admin_pb.LoadModelRequest(name="voxels", version="1")
    openings = [*OPENINGS, {"version": "1"}]
    async with (
        grpc.aio.insecure_channel(f"127.0.0.1:{admin_port}") as channel,
        loaded_streams(server, openings) as streams,
    ):
        admin = admin_grpc.ModelAdminStub(channel)
        options: dict[str, Any] = {
            "metadata": [("authorization", f"Bearer {TOKEN}")],
            "timeout": TIMEOUT,
        }
        for stream in streams:
            await stream.more()
        await admin.ReloadModel(admin_pb.ReloadModelRequest(name="voxels"), **options)
        for stream in streams:
            await stream.until(lambda s: len(s.reloads) == 1, "notice of the reload")
            await stream.more()
            assert not stream.errors, stream
        unloaded = await admin.UnloadModel(admin_pb.UnloadModelRequest(name="voxels"), **options)
        assert [m.state for m in unloaded.models] == [admin_pb.ModelVersion.UNLOADED]
        for stream in streams:
            await stream.until(lambda s: s.errors, "answers without a model")
        assert (await asyncio.to_thread(server.http, "/readyz"))[0] == 503
        loaded = await admin.LoadModel(asked, **options)
        assert loaded.model.state == admin_pb.ModelVersion.READY
        for stream in streams:
            await stream.until(lambda s: len(s.reloads) == 2, "notice of the loaded model")
            results = len(stream.results)
            await stream.until(lambda s, r=results: len(s.results) > r + 10, "results again")

    for stream in streams:
        assert stream.code is grpc.StatusCode.OK and not stream.unanswered
        assert {error.code for error in stream.errors.values()} == {NOT_FOUND}, stream
        # From the first frame without a model to the last one nothing else.
        kinds = [frame_id in stream.results for frame_id in stream.sent]
        assert [kind for kind, _ in groupby(kinds)] == [True, False, True]
    counted = await server.balanced()
    assert counted.outcomes() == {
        "ok": sum(len(stream.results) for stream in streams),
        "invalid": sum(len(stream.errors) for stream in streams),
    }
    assert counted.total("voxgate_model_loads_total", outcome="ok") == 3
