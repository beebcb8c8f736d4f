# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""A client that does not read its answers: it is held back, and only its own stream is."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import grpc
import pytest
from tests.end_to_end.faults.busy_model import MODEL, busy_frame, busy_model
from tests.end_to_end.faults.conftest import StartProcess
from tests.end_to_end.faults.process import PATIENCE, Scrape, ServerProcess, opened
from tests.server.driver import Stream, frame

from voxgate_protos import voxel_inference_pb2 as pb

# A client's connection takes 64 KiB of answers that nobody reads, not more with every answer.
FIXED_WINDOW = ("grpc.http2.bdp_probe", 0)
FRAMES = 200
QUEUED = 4
SITES = 2000
# Of an answer to a frame of SITES, with some room.
ANSWER_BYTES = SITES * 60
STILL = 15


async def answers(stream: Stream, count: int) -> tuple[list[str], list[str]]:
    """The ids of so many answers: those of results, and those refused for a full queue."""
    results, refused = [], []
    for _ in range(count):
        answer = await stream.read()
        if answer.HasField("error"):
            assert answer.error.code == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0], answer.error
            refused.append(answer.error.frame_id)
        else:
            results.append(answer.result.frame_id)
    return results, refused


async def send_all(stream: Stream, frames: Sequence[pb.Frame]) -> None:
    for one in frames:
        await stream.send(frame=one)


async def held_back(server: ServerProcess) -> Scrape:
    """The scrape when `STILL` looks in a row have found no further frame and nothing executed."""
    seen: list[tuple[float, float]] = []

    def is_still(scrape: Scrape) -> bool:
        seen.append((scrape.received, scrape.in_flight_bytes))
        return scrape.in_flight_bytes > 0 and len(seen) > STILL and len(set(seen[-STILL:])) == 1

    return await server.until(is_still, "standstill")


@pytest.mark.parametrize("shared_connection", [False, True])
async def test_a_slow_reader_holds_up_nobody_else(
    start_process: StartProcess, shared_connection: bool
) -> None:
    """Nor a neighbour on its own connection, as two sensors of one vehicle have."""
    server = await start_process()
    frames = [frame(f"{index}", SITES) for index in range(FRAMES)]
    async with server.channel(FIXED_WINDOW) as channel, server.channel() as elsewhere:
        slow = await opened(channel, max_queued_frames=QUEUED)
        neighbour = await opened(channel if shared_connection else elsewhere)
        sending = asyncio.create_task(send_all(slow, frames))
        scrape = await held_back(server)
        # Its queue, as many answers that are not written, and what gRPC took before it waits.
        assert QUEUED < scrape.received < FRAMES // 4
        largest = len(frames[0].SerializeToString()) + ANSWER_BYTES
        assert 0 < scrape.in_flight_bytes < (2 * QUEUED + 4) * largest

        for index in range(50):
            await neighbour.send(frame=frame(f"{index}", SITES, index))
            assert (await neighbour.result()).frame_id == f"{index}"
        await server.until(
            lambda s: (
                s.received == scrape.received + 50 and s.in_flight_bytes == scrape.in_flight_bytes
            ),
            "end of what the neighbour had in flight",
        )

        results, refused = await answers(slow, FRAMES)
        assert results == sorted(results, key=int)
        assert sorted(results + refused, key=int) == [sent.frame_id for sent in frames]
        await asyncio.wait_for(sending, PATIENCE)
        assert await slow.finish() == [] and await neighbour.finish() == []
        outcomes = (await server.balanced()).outcomes()
        assert outcomes.pop("overloaded", 0) == len(refused)
        assert outcomes == {"ok": len(results) + 50}


async def test_a_slow_reader_that_leaves_is_counted(start_process: StartProcess) -> None:
    server = await start_process()
    frames = [frame(f"{index}", SITES) for index in range(FRAMES)]
    async with server.channel(FIXED_WINDOW) as channel:
        slow = await opened(channel, max_queued_frames=QUEUED)
        sending = asyncio.create_task(send_all(slow, frames))
        scrape = await held_back(server)
        sending.cancel()
        slow.call.cancel()
        after = await server.until(
            lambda s: s.total("voxgate_streams_closed_total") == 1, "end of the stream"
        )
        assert after.balanced, str(after)
        assert after.received == scrape.received
        assert after.outcomes()["cancelled"] >= QUEUED


async def test_a_reader_of_refusals_only_when_it_likes(start_process: StartProcess) -> None:
    """Answers that are errors fill no memory either."""
    server = await start_process()
    count = 3000
    bad = pb.Frame(frame_id="bad", sensor_id="x" * 2000)
    async with server.channel(FIXED_WINDOW) as channel:
        slow = await opened(channel, max_queued_frames=QUEUED)
        sending = asyncio.create_task(send_all(slow, [bad] * count))
        scrape = await held_back(server)
        assert scrape.received < count
        assert scrape.in_flight_bytes < 100_000
        for _ in range(count):
            assert (await slow.error()).code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
        await asyncio.wait_for(sending, PATIENCE)
        await slow.finish()
        assert (await server.balanced()).outcomes() == {"invalid": count}


async def test_results_that_wait_for_an_older_one_hold_their_stream_back(
    start_process: StartProcess, tmp_path: Path
) -> None:
    """Two instances: the second overtakes a frame that keeps the first busy for seconds."""
    busy_model(tmp_path / MODEL / "1" / "model.onnx")
    server = await start_process(tmp_path, instances=2, threads=1, max_batch_frames=1)
    async with server.channel() as channel, server.channel() as elsewhere:
        stream = await opened(channel, MODEL, max_queued_frames=QUEUED)
        await stream.send(frame=busy_frame("long", 10_000, 30))
        await server.until(
            lambda s: s.received == 1 and s.total("voxgate_queued_frames") == 0, "start of the run"
        )
        frames = [busy_frame(f"{index}", count=1000) for index in range(FRAMES)]
        sending = asyncio.create_task(send_all(stream, frames))
        scrape = await held_back(server)
        assert "ok" not in scrape.outcomes()
        assert QUEUED < scrape.received - scrape.outcomes().get("overloaded", 0) <= 1 + 3 * QUEUED
        neighbour = await opened(elsewhere, MODEL)
        await neighbour.send(frame=busy_frame("meanwhile"))
        assert (await neighbour.result()).frame_id == "meanwhile"
        await server.until(lambda s: s.outcomes().get("ok") == 1, "count of the neighbour's")
        results, refused = await answers(stream, 1 + FRAMES)
        assert results[0] == "long" and results[1:] == sorted(results[1:], key=int)
        assert len(set(results + refused)) == 1 + FRAMES
        await asyncio.wait_for(sending, PATIENCE)
        assert await stream.finish() == [] and await neighbour.finish() == []
        assert (await server.balanced()).outcomes()["ok"] == 1 + len(results)
