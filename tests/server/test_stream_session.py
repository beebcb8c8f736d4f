# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""A stream's session over a call that this file plays."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from tests.server.driver import Client, frame

from voxgate_protos import voxel_inference_pb2 as pb
from voxgate_server import stream_session
from voxgate_server.admission import Admission
from voxgate_server.errors import Unauthenticated
from voxgate_server.stream_session import StreamSession
from voxgate_server.telemetry import NoSpans


class Deaf:
    """A client that begins a new frame with every message and reads no answer."""

    def __init__(self) -> None:
        self.sent = 0

    async def read(self) -> object:
        await asyncio.sleep(0)
        self.sent += 1
        if self.sent == 1:
            return pb.StreamRequest(open=pb.StreamOpen(model="voxels")).SerializeToString()
        if self.sent > 1000:
            return grpc.aio.EOF
        chunk = pb.FrameChunk(part=frame(f"{self.sent}", 3))
        return pb.StreamRequest(chunk=chunk).SerializeToString()

    async def write(self, message: bytes, /) -> None:
        await asyncio.Event().wait()


def session_of(client: Client, call: Deaf) -> StreamSession:
    app = client.app
    return StreamSession(
        call,
        app.settings,
        app.models,
        app._security.authenticator.identify((), "ipv4:10.0.0.1:5", {}),
        Admission(1 << 30),
        app.metrics.model("", ""),
        NoSpans(),
    )


async def test_interrupted_frames_do_not_fill_memory_with_their_errors(client: Client) -> None:
    call = Deaf()
    session = session_of(client, call)
    running = asyncio.create_task(session.run())
    last = -1
    while call.sent != last:
        last = call.sent
        await asyncio.sleep(0.05)
    assert call.sent < 50
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert set(await client.settle(call.sent - 1)) == {"cancelled"}


async def test_a_stream_that_is_ended_waits_a_moment_for_a_client_that_does_not_read(
    client: Client, monkeypatch
) -> None:
    monkeypatch.setattr(stream_session, "_LAST_WORDS", 0.1)
    call = Deaf()
    session = session_of(client, call)
    running = asyncio.create_task(session.run())
    while session.open is None:
        await asyncio.sleep(0)
    session.end(Unauthenticated("revoked"))
    with pytest.raises(Unauthenticated):
        await asyncio.wait_for(running, 5)
    received, counted = client.counted()
    assert received == counted
