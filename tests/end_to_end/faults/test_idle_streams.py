# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Vehicles that are parked: open streams that only ping cost nothing and stay open."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest
from tests.end_to_end.faults.conftest import StartProcess
from tests.end_to_end.faults.process import opened
from tests.server.driver import frame

STREAMS = 200
SECONDS = 120
# 200 connections, each with its own pings; 12 in two minutes are more than a server of gRPC's
# defaults forgives.
PINGS = (
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.ping_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
)
# Of a core, over the two minutes: a tenth of one, where the server burns none.
MAX_CPU_SECONDS = 12.0


@pytest.mark.slow
async def test_two_hundred_idle_streams_for_two_minutes(
    start_process: StartProcess, record_property: pytest.RecordProperty
) -> None:
    server = await start_process()
    async with AsyncExitStack() as stack:
        streams = []
        for _ in range(STREAMS):
            channel = await stack.enter_async_context(server.channel(*PINGS))
            streams.append(await opened(channel))
        before = server.cpu_seconds
        await asyncio.sleep(SECONDS)  # the idling is what is tested
        burned = server.cpu_seconds - before
        record_property("server CPU seconds", burned)
        print(f"{STREAMS} idle streams, {SECONDS} s: {burned:.2f} s of CPU in the server")

        scrape = server.scrape()
        assert scrape.total("voxgate_active_streams") == STREAMS
        assert scrape.total("voxgate_streams_closed_total") == 0
        assert burned < MAX_CPU_SECONDS
        for stream in streams:
            await stream.send(frame=frame("still here"))
        for stream in streams:
            assert (await stream.result()).frame_id == "still here"
        assert (await server.balanced()).outcomes() == {"ok": STREAMS}
        for stream in streams:
            assert await stream.finish() == []
