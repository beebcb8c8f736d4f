# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""A run that does not come back: its frames fail, /livez says so, and the server goes on."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest
from tests.end_to_end.faults.busy_model import MODEL, busy_frame, busy_model
from tests.end_to_end.faults.conftest import StartProcess
from tests.end_to_end.faults.process import opened
from tests.server.driver import TIMEOUT, frame
from tests.server.models import voxel_model

from voxgate_protos import voxel_inference_pb2 as pb
from voxgate_protos import voxel_inference_pb2_grpc as pb_grpc

MAX_EXECUTE = 1.0
# A round of seconds, in which ONNX Runtime hears nothing, and so many rounds that they never end.
DEAF_BOXES, ENDLESS = 60_000, 1_000_000
# One round of a quarter of an hour and more.
DEAF_FOREVER = 1_000_000
INTERNAL = grpc.StatusCode.INTERNAL.value[0]
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE.value[0]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hanging")
    voxel_model(folder / "voxels" / "1" / "model.onnx")
    busy_model(folder / MODEL / "1" / "model.onnx")
    return folder


async def test_a_hung_run_is_ended_and_the_server_serves_on(
    start_process: StartProcess, models: Path
) -> None:
    server = await start_process(models, max_execute=MAX_EXECUTE)
    async with server.channel() as channel, server.channel() as elsewhere:
        stream = await opened(channel, MODEL)
        neighbour = await opened(elsewhere, MODEL)
        await stream.send(frame=busy_frame("hangs", DEAF_BOXES, ENDLESS))
        await server.until(
            lambda s: s.received == 1 and s.total("voxgate_queued_frames") == 0, "start of the run"
        )
        await neighbour.send(frame=busy_frame("behind it"))
        error = await stream.error()
        assert (error.frame_id, error.code) == ("hangs", INTERNAL)
        assert f"longer than {MAX_EXECUTE:g} s" in error.message

        # The run cannot end within its round.
        reason = await server.until_live(503)
        assert f"model {MODEL} version 1" in reason and f"over {MAX_EXECUTE:g} s" in reason
        assert server.http("/readyz")[0] == 200
        other = await opened(elsewhere)
        await other.send(frame=frame("another model's"))
        assert (await other.result()).frame_id == "another model's"

        assert (await neighbour.result()).frame_id == "behind it"
        assert await server.until_live(200) == "ok\n"
        await stream.send(frame=busy_frame("next"))
        assert (await stream.result()).frame_id == "next"
        for open_stream in (stream, neighbour, other):
            assert await open_stream.finish() == []
        scrape = await server.balanced()
        assert scrape.outcomes() == {"failed": 1, "ok": 3}
        assert "a run has taken 1 s, it is given up: frames 'hangs'" in server.log


async def test_every_frame_of_a_hung_batch_is_answered(
    start_process: StartProcess, models: Path
) -> None:
    """Of streams and of Infer alike; the frames are not run again, which could hang again."""
    held = {"max_queue_delay": 10, "max_batch_frames": 3}  # until there are three
    server = await start_process(models, max_execute=MAX_EXECUTE, **held)
    async with server.channel() as channel:
        stub = pb_grpc.VoxelInferenceStub(channel)
        stream = await opened(channel, MODEL)
        request = pb.InferRequest(model=MODEL, frame=busy_frame("call"))
        call = stub.Infer(request, timeout=TIMEOUT)
        await stream.send(frame=busy_frame("hangs", 20_000, ENDLESS))
        await stream.send(frame=busy_frame("beside it"))
        for frame_id in ("hangs", "beside it"):
            error = await stream.error()
            assert (error.frame_id, error.code) == (frame_id, INTERNAL)
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await call
        assert failed.value.code() is grpc.StatusCode.INTERNAL
        await server.until_live(200)
        for index in range(3):
            await stream.send(frame=busy_frame(f"next {index}"))
        for index in range(3):
            assert (await stream.result()).frame_id == f"next {index}"
        scrape = await server.balanced()
        assert scrape.outcomes() == {"failed": 3, "ok": 3}
        assert scrape.total("voxgate_batch_frames_count") == 2
        await stream.finish()


@pytest.mark.parametrize("given_up", [False, True])
async def test_a_hung_run_does_not_hold_up_the_end(
    start_process: StartProcess, models: Path, given_up: bool
) -> None:
    """Whether or not its frame has had its answer before SIGTERM comes."""
    max_execute = MAX_EXECUTE if given_up else 60.0
    server = await start_process(models, max_execute=max_execute, drain_timeout=0.5)
    async with server.channel() as channel:
        stream = await opened(channel, MODEL)
        await stream.send(frame=busy_frame("hangs", DEAF_FOREVER))
        await server.until(
            lambda s: s.received == 1 and s.total("voxgate_queued_frames") == 0, "start of the run"
        )
        await stream.send(frame=busy_frame("behind it"))
        if given_up:
            assert (await stream.error()).code == INTERNAL
            await server.until_live(503)
        server.terminate()
        responses = await stream.rest()
        notices = [r.notice.kind for r in responses if r.HasField("notice")]
        assert notices == [pb.ServerNotice.DRAINING]
        errors = {r.error.frame_id: r.error.code for r in responses if r.HasField("error")}
        unanswered = ["behind it"] if given_up else ["hangs", "behind it"]
        assert errors == dict.fromkeys(unanswered, UNAVAILABLE)
        assert await stream.code() is grpc.StatusCode.OK
        assert await server.exit_code() == 0, server.log
    assert "Traceback" not in server.log
