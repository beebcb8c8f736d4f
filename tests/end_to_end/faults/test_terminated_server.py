# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""SIGTERM under load: every frame the server took is answered, and it ends well and in time."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import grpc
from tests.end_to_end.faults.conftest import StartProcess
from tests.end_to_end.faults.load import loaded_streams
from tests.end_to_end.faults.picky_model import picky_model
from tests.end_to_end.faults.process import PATIENCE, opened
from tests.server.driver import frame

from voxgate_protos import voxel_inference_pb2 as pb
from voxgate_protos import voxel_inference_pb2_grpc as pb_grpc

STREAMS = 8
# Frames of the model `held` wait for a batch that never gets full, this long.
HOLD_SECONDS = 6.0
HELD = 5
UNAVAILABLE: int = grpc.StatusCode.UNAVAILABLE.value[0]


async def test_sigterm_under_load_leaves_no_frame_unanswered(
    start_process: StartProcess, tmp_path: Path
) -> None:
    models = tmp_path / "models"
    picky_model(models / "voxels" / "1" / "model.onnx")
    picky_model(models / "held" / "1" / "model.onnx")
    (models / "held" / "config.yaml").write_text(f"max_queue_delay: {HOLD_SECONDS}\n")
    server = await start_process(models, drain_timeout=60, log_format="json")
    openings = [{"chunked": number == 0} for number in range(STREAMS)]
    async with loaded_streams(server, openings) as streams, server.channel() as channel:
        for stream in streams:
            await stream.more(20)
        held = await opened(channel, "held")
        for number in range(HELD):
            await held.send(frame=frame(f"{number}"))
        request = pb.InferRequest(model="held", frame=frame("unary"))
        unary = asyncio.ensure_future(pb_grpc.VoxelInferenceStub(channel).Infer(request))
        await server.until(
            lambda now: now.total("voxgate_queued_frames", model="held") == HELD + 1, "held frames"
        )
        server.terminate()

        for stream in streams:
            await asyncio.wait_for(stream.task, PATIENCE)
            assert stream.draining and stream.code is grpc.StatusCode.OK, stream
            # The frames the server had admitted, those it read then, and those it never read.
            assert {error.code for error in stream.errors.values()} <= {UNAVAILABLE}, stream
            sent = list(stream.sent)
            admitted, late = len(stream.results), len(stream.errors)
            assert list(stream.results) == sent[:admitted]
            assert sorted(stream.errors, key=int) == sent[admitted : admitted + late]
        during = server.scrape()  # the held frames keep the drain going
        assert server.http("/readyz")[0] == 503 and server.http("/livez")[0] == 200
        assert during.total("voxgate_frames_in_flight") == HELD + 1
        assert during.received == sum(during.outcomes().values()) + HELD + 1

        rest = await held.rest()
        assert rest[0].notice.kind == pb.ServerNotice.DRAINING
        assert [answer.result.frame_id for answer in rest[1:]] == [f"{n}" for n in range(HELD)]
        assert await held.code() is grpc.StatusCode.OK
        assert (await asyncio.wait_for(unary, PATIENCE)).frame_id == "unary"
        assert await server.exit_code() == 0

    lines = [json.loads(line) for line in server.log.splitlines()]
    assert not [line for line in lines if line["level"] in ("warning", "error")]
    closed = [line for line in lines if line["message"] == "stream closed"]
    assert {line["code"] for line in closed} == {"OK"} and len(closed) == STREAMS + 1
    late = sum(len(stream.errors) for stream in streams)
    answered = sum(len(stream.results) for stream in streams) + HELD
    totals = {k: sum(line.get(k, 0) for line in closed) for k in ("frames", "ok", "unavailable")}
    assert totals == {"frames": answered + late, "ok": answered, "unavailable": late}
    assert during.received == answered + late + 1
