# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Frames whose `captured_at` comes from a wrong clock: it schedules nothing, spoils no metric."""

from __future__ import annotations

import time

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from tests.end_to_end.faults.conftest import StartProcess
from tests.end_to_end.faults.process import Scrape, opened
from tests.server.driver import TIMEOUT, frame

from voxgate_protos import voxel_inference_pb2 as pb
from voxgate_protos import voxel_inference_pb2_grpc as pb_grpc

HOUR = 3600
# Seconds and nanoseconds that are no time at all, or none that a calendar has.
ABSURD = {
    "year 10000": (253_402_300_800, 0),
    "year 0": (-62_135_596_801, 0),
    "last second of 64 bits": (2**63 - 1, 0),
    "first second of 64 bits": (-(2**63), 0),
    "nanoseconds of four seconds": (int(time.time()) - 2 * HOUR, 2**31 - 1),
    "negative nanoseconds": (int(time.time()) + 2 * HOUR, -(2**31)),
    "1970": (0, 0),
}


def stamped(frame_id: str, seconds: float, nanos: int | None = None) -> pb.Frame:
    whole = int(seconds)
    rest = int((seconds - whole) * 1e9) if nanos is None else nanos
    stamped = frame(frame_id)
    stamped.captured_at.CopyFrom(Timestamp(seconds=whole, nanos=rest))
    return stamped


def ages(scrape: Scrape) -> tuple[float, float]:
    """Frames whose age is in the histogram, and those whose age was implausible."""
    return (
        scrape.total("voxgate_frame_age_seconds_count"),
        scrape.total("voxgate_frame_age_implausible_total"),
    )


async def test_a_clock_off_by_an_hour_schedules_nothing(start_process: StartProcess) -> None:
    """Every frame is answered, in the order sent, though by its clock it was due an hour ago."""
    server = await start_process()
    async with server.channel() as channel:
        stream = await opened(channel, frame_deadline=Duration(seconds=20), max_queued_frames=64)
        now = time.time()
        for index in range(30):
            captured_at = (now - HOUR, now, now + HOUR)[index % 3]
            await stream.send(frame=stamped(f"{index}", captured_at))
        answers = [await stream.result() for _ in range(30)]
        assert [answer.frame_id for answer in answers] == [f"{index}" for index in range(30)]
        assert all(answer.timing.queue_us < 10e6 for answer in answers)
        scrape = await server.balanced()
        assert ages(scrape) == (10, 20)
        assert scrape.total("voxgate_frame_age_seconds_sum") < 10 * TIMEOUT

        stub = pb_grpc.VoxelInferenceStub(channel)
        for captured_at in (now - HOUR, now, now + HOUR):
            request = pb.InferRequest(model="voxels", frame=stamped("i", captured_at))
            assert (await stub.Infer(request, timeout=TIMEOUT)).frame_id == "i"
        scrape = await server.balanced()
        assert ages(scrape) == (11, 22)
        assert scrape.outcomes() == {"ok": 33}
        await stream.finish()


async def test_absurd_times_are_answered_and_counted_apart(start_process: StartProcess) -> None:
    server = await start_process()
    async with server.channel() as channel:
        stream = await opened(channel, max_queued_frames=64)
        for name, (seconds, nanos) in ABSURD.items():
            await stream.send(frame=stamped(name, seconds, nanos))
        for name in ABSURD:
            assert (await stream.result()).frame_id == name
        stub = pb_grpc.VoxelInferenceStub(channel)
        for name, (seconds, nanos) in ABSURD.items():
            request = pb.InferRequest(model="voxels", frame=stamped(name, seconds, nanos))
            assert (await stub.Infer(request, timeout=TIMEOUT)).frame_id == name
        scrape = await server.balanced()
        assert ages(scrape) == (0, 2 * len(ABSURD))
        assert scrape.outcomes() == {"ok": 2 * len(ABSURD)}
        await stream.finish()


@pytest.mark.parametrize("policy", ["FIFO", "LATEST"])
async def test_chunks_are_timed_by_the_servers_clock(
    start_process: StartProcess, policy: str
) -> None:
    """A first chunk that says it is an hour old is waited for as any other."""
    server = await start_process()
    async with server.channel() as channel:
        stream = await opened(channel, policy=policy)
        part = stamped("chunked", time.time() - HOUR)
        await stream.send(chunk=pb.FrameChunk(part=part, index=0))
        last = frame("chunked", 3, 1)
        last.voxels.num_sites = 0
        last.voxels.coords = last.voxels.features = b""
        await stream.send(chunk=pb.FrameChunk(part=last, index=1, last=True))
        assert (await stream.result()).frame_id == "chunked"
        assert ages(await server.balanced()) == (0, 1)
        await stream.finish()
