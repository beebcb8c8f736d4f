# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""The engine fails in the middle of a batch: the frames that are to blame fail, and no other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from tests.end_to_end.faults.conftest import StartProcess
from tests.end_to_end.faults.load import loaded_streams
from tests.end_to_end.faults.picky_model import FAILING_SUM, picky_frame, picky_model
from tests.end_to_end.faults.process import ServerProcess, opened
from tests.server.driver import TIMEOUT, Stream, arrays

from voxgate_protos import voxel_inference_pb2 as pb
from voxgate_protos import voxel_inference_pb2_grpc as pb_grpc

# A batch of the model `gathered` starts with its last frame: nothing depends on how fast they come.
BATCH = 4
INTERNAL: int = grpc.StatusCode.INTERNAL.value[0]
INVALID: int = grpc.StatusCode.INVALID_ARGUMENT.value[0]


@pytest.fixture
async def server(start_process: StartProcess, tmp_path: Path) -> AsyncIterator[ServerProcess]:
    """Serves `gathered` and `voxels`, the same picky model twice."""
    for name in ("gathered", "voxels"):
        picky_model(tmp_path / "models" / name / "1" / "model.onnx")
    config = tmp_path / "models" / "gathered" / "config.yaml"
    config.write_text(f"max_queue_delay: 10\nmax_batch_frames: {BATCH}\n")
    yield await start_process(tmp_path / "models")


async def batch_of(server: ServerProcess, *frames: pb.Frame) -> list[pb.StreamResponse]:
    """The answers to frames that run together, each from a stream of its own."""
    assert len(frames) == BATCH

    async def answer(stream: Stream, sent: pb.Frame) -> pb.StreamResponse:
        await stream.send(frame=sent)
        response = await stream.read()
        assert await stream.finish() == [] and await stream.code() is grpc.StatusCode.OK
        return response

    async with server.channel() as channel:
        streams = [await opened(channel, "gathered") for _ in frames]
        return list(await asyncio.gather(*map(answer, streams, frames)))


def kinds(answers: list[pb.StreamResponse]) -> list[int]:
    """The code of each answer; 0 for a result, which is checked."""
    for answer in answers:
        if answer.WhichOneof("message") == "result":
            sent = picky_frame("", total=0)
            coords = np.frombuffer(sent.voxels.coords, np.int32).reshape(-1, 3)
            score = arrays(answer.result)["score"]
            np.testing.assert_array_equal(score[1:], coords[1:, 1])
    return [answer.error.code for answer in answers]


async def test_one_frame_that_fails_or_is_refused_costs_no_other(server: ServerProcess) -> None:
    async with loaded_streams(server, [{}, {}]) as neighbours:
        good = [picky_frame("a"), picky_frame("b"), picky_frame("c")]
        assert kinds(await batch_of(server, *good, picky_frame("d"))) == [0, 0, 0, 0]

        failing = picky_frame("bad", total=2 * FAILING_SUM)
        answers = await batch_of(server, *good[:1], failing, *good[1:])
        assert kinds(answers) == [0, INTERNAL, 0, 0]
        assert answers[1].error.frame_id == "bad" and "Reshape" in answers[1].error.message
        # They ran again, each alone.
        assert {answers[n].result.timing.batch_frames for n in (0, 2, 3)} == {1}

        refused = picky_frame("bad", refused=True)
        answers = await batch_of(server, *good[:1], refused, *good[1:])
        assert kinds(answers) == [0, INVALID, 0, 0]
        assert "refused" in answers[1].error.message

        # Each for a reason of its own.
        answers = await batch_of(server, refused, failing, *good[:2])
        assert kinds(answers) == [INVALID, INTERNAL, 0, 0]

        # None is to blame: they fail together only.
        half = [picky_frame(f"{n}", total=0.6 * FAILING_SUM) for n in range(BATCH)]
        assert kinds(await batch_of(server, *half)) == [0, 0, 0, 0]
    for neighbour in neighbours:
        assert not neighbour.errors and not neighbour.unanswered, neighbour
    counted = await server.balanced()
    assert counted.outcomes(model="gathered") == {"ok": 16, "failed": 2, "invalid": 2}
    # The first batch, and of each other one the run together and those alone.
    runs = counted.total("voxgate_batch_frames_count", model="gathered")
    assert runs == 1 + 4 * (1 + BATCH)
    assert server.http("/livez")[0] == 200


async def test_a_batch_of_which_every_frame_fails_costs_no_other_batch(
    server: ServerProcess,
) -> None:
    bad = [picky_frame(f"{n}", total=2 * FAILING_SUM) for n in range(BATCH)]
    async with server.channel() as channel, loaded_streams(server, [{}]) as (neighbour,):
        stream = await opened(channel, "gathered", max_queued_frames=2 * BATCH)
        for sent in bad:
            await stream.send(frame=sent)
        for number in range(BATCH):
            await stream.send(frame=picky_frame(f"good {number}"))
        errors = [await stream.error() for _ in bad]
        results = [await stream.result() for _ in range(BATCH)]
        assert [e.frame_id for e in errors] == [sent.frame_id for sent in bad]
        assert {e.code for e in errors} == {INTERNAL}
        assert [r.frame_id for r in results] == [f"good {n}" for n in range(BATCH)]
        assert {r.timing.batch_frames for r in results} == {BATCH}
        await stream.finish()
        assert await stream.code() is grpc.StatusCode.OK
        await neighbour.more()
    assert not neighbour.errors, neighbour
    counted = await server.balanced()
    assert counted.outcomes(model="gathered") == {"ok": BATCH, "failed": BATCH}


async def test_calls_in_a_failing_batch_get_their_own_status(server: ServerProcess) -> None:
    frames = [
        picky_frame("a"),
        picky_frame("b", total=2 * FAILING_SUM),
        picky_frame("c", refused=True),
        picky_frame("d"),
    ]
    async with server.channel() as channel:
        stub = pb_grpc.VoxelInferenceStub(channel)

        async def code(sent: pb.Frame) -> grpc.StatusCode:
            call = stub.Infer(pb.InferRequest(model="gathered", frame=sent), timeout=TIMEOUT)
            code: grpc.StatusCode = await call.code()
            return code

        codes = await asyncio.gather(*map(code, frames))
    status = grpc.StatusCode
    assert codes == [status.OK, status.INTERNAL, status.INVALID_ARGUMENT, status.OK]
    counted = await server.balanced()
    assert counted.outcomes() == {"ok": 2, "failed": 1, "invalid": 1}
