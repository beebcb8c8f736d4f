# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""A peer that is gone without FIN, as a vehicle that changed networks: both sides find out."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import grpc
import pytest
from tests.end_to_end.faults.conftest import StartProcess
from tests.end_to_end.faults.process import opened
from tests.end_to_end.faults.proxy import network
from tests.server.driver import TIMEOUT, frame, random_sites

from voxgate_client.async_client import AsyncVoxgateClient
from voxgate_client.async_frame_stream import AsyncFrameStream
from voxgate_client.client import VoxgateClient
from voxgate_client.frame_stream import FrameStream
from voxgate_client.messages import Answer, Frame, FrameFailure, FrameResult
from voxgate_protos import voxel_inference_pb2 as pb

# DESIGN §7: found within 30 s.
FOUND = 30.0
CLOSED = "voxgate_streams_closed_total"
# Streams of which each has a connection of its own, every other one with a frame arriving.
STREAMS = 40
pytestmark = pytest.mark.slow


def sweep() -> Frame:
    coords, features = random_sites(5)
    return Frame(coords=coords, features=features)


async def send(stream: FrameStream | AsyncFrameStream, frame_id: str) -> None:
    if isinstance(stream, FrameStream):
        await asyncio.to_thread(stream.send, sweep(), frame_id=frame_id, timeout=TIMEOUT)
    else:
        await asyncio.wait_for(stream.send(sweep(), frame_id=frame_id), TIMEOUT)


async def receive(stream: FrameStream | AsyncFrameStream, patience: float = TIMEOUT) -> Answer:
    if isinstance(stream, FrameStream):
        answer = await asyncio.to_thread(stream.receive, patience)
    else:
        answer = await asyncio.wait_for(stream.receive(), patience)
    assert answer is not None
    return answer


async def test_both_sides_notice_a_network_that_fell_silent(start_process: StartProcess) -> None:
    server = await start_process(chunk_timeout=600)
    async with (
        network(server.target) as between,
        AsyncVoxgateClient(between.target) as async_client,
        AsyncExitStack() as stack,
    ):
        with VoxgateClient(between.target) as client:
            chunk = pb.FrameChunk(part=frame("half"), index=0)
            for index in range(STREAMS):
                channel = server.channel(target=between.target)
                raw = await opened(await stack.enter_async_context(channel))
                if index % 2:
                    await raw.send(chunk=chunk)
            size = STREAMS // 2 * pb.StreamRequest(chunk=chunk).ByteSize()
            await server.until(
                lambda s: s.total("voxgate_received_bytes_total") == size, "arrival of the chunks"
            )
            streams: list[FrameStream | AsyncFrameStream] = [
                await asyncio.to_thread(client.open_stream, "voxels"),
                await async_client.open_stream("voxels"),
            ]
            for stream in streams:
                await send(stream, "before")
                assert isinstance(await receive(stream), FrameResult)

            assert between.fall_silent() == STREAMS + len(streams)
            for stream in streams:
                await send(stream, "lost")

            async def finds_out(stream: FrameStream | AsyncFrameStream) -> None:
                lost = await receive(stream, FOUND)
                assert isinstance(lost, FrameFailure) and lost.frame_id == "lost"
                assert lost.code is grpc.StatusCode.UNAVAILABLE
                await send(stream, "again")
                again = await receive(stream)
                assert isinstance(again, FrameResult) and again.frame_id == "again"
                kinds = [notice.kind for notice in stream.notices]
                assert kinds == ["RECONNECTING", "RECONNECTED"]

            found_out = asyncio.gather(*map(finds_out, streams))
            gone = STREAMS + len(streams)
            scrape = await server.until(
                lambda s: sum(s.by(CLOSED, "code").values()) == gone, "end of the streams", FOUND
            )
            # Not OK: a broken connection is not the client's end of sending.
            assert scrape.by(CLOSED, "code") == {"CANCELLED": gone}
            assert scrape.outcomes()["cancelled"] == STREAMS // 2
            await found_out
            scrape = await server.balanced()
            assert scrape.outcomes() == {"ok": 2 * len(streams), "cancelled": STREAMS // 2}
            assert scrape.total("voxgate_active_streams") == len(streams)
            for stream in streams:
                if isinstance(stream, FrameStream):
                    await asyncio.to_thread(stream.close)
                else:
                    await stream.close()
