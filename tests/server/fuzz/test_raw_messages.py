# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Spoilt messages over gRPC to a real server: whatever comes, the next good frame is answered."""

from __future__ import annotations

import asyncio
import random

import grpc
import pytest
from google.protobuf.message import DecodeError
from tests.server.conftest import StartServer
from tests.server.driver import TIMEOUT, Client, Stream, frame
from tests.server.fuzz import mutations
from tests.server.fuzz.mutations import CANCELS, CHUNKED, FRAMES, INFERS, OPENS

from voxgate_protos import voxel_inference_pb2 as pb

STREAM_MESSAGES, CALLS, ROUND = 3000, 2000, 25
# What a client's mistake may be answered with; UNKNOWN and INTERNAL would be the server's.
MISTAKES = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.CANCELLED,
}
NUMBERS = {code.value[0] for code in MISTAKES}


def spoilt(source: random.Random, kinds: list[list[mutations.Fields]]) -> list[bytes]:
    """A message, or all of a frame in chunks, some of them spoilt."""
    frame_id = b"%d" % source.randrange(40)
    messages = [mutations.copied(fields, frame_id) for fields in source.choice(kinds)]
    return [
        mutations.mutated(source, fields) if source.random() < 0.7 else mutations.encoded(fields)
        for fields in messages
    ]


def ends_a_stream(raw: bytes) -> bool:
    """A second `open` does, as the protocol has it."""
    try:
        return pb.StreamRequest.FromString(raw).HasField("open")
    except DecodeError:
        return False


async def until_answered(stream: Stream, frame_id: str) -> None:
    """Read up to the result of this frame; whatever else is answered must be a mistake."""
    while True:
        response = await stream.read()
        if response.HasField("error"):
            assert response.error.code in NUMBERS, response
            assert response.error.frame_id != frame_id, response
        elif response.result.frame_id == frame_id:
            return


@pytest.mark.parametrize("unordered", [False, True])
async def test_a_stream_goes_on(start_server: StartServer, unordered: bool) -> None:
    client = await start_server(queued_frames=64, chunk_timeout=60)  # which would be no mistake
    source = random.Random(unordered)
    stream = await client.opened(unordered=unordered)
    sent = 0
    while sent < STREAM_MESSAGES / 2:
        messages: list[bytes] = []
        while len(messages) < ROUND:
            messages += spoilt(source, FRAMES + CHUNKED + CANCELS)
        for raw in messages:
            if not ends_a_stream(raw):
                await stream.send_raw(raw)
                sent += 1
        good = frame(f"good {sent}", 9, 9)
        try:
            await stream.send(frame=good)
            await until_answered(stream, good.frame_id)
        except BaseException as error:
            error.add_note(f"{sent} messages of seed {unordered!r}, the last ones: ")
            error.add_note("\n".join(raw.hex() for raw in messages))
            raise
    rest = await stream.finish()
    assert await stream.code() is grpc.StatusCode.OK
    assert all(r.error.code in NUMBERS for r in rest if r.HasField("error"))


async def test_whatever_opens_a_stream(client: Client) -> None:
    source = random.Random(3)
    for _ in range(300):
        (raw,) = spoilt(source, OPENS)
        stream = client.stream()
        await stream.send_raw(raw)
        await stream.send(frame=frame("a"))
        await stream.finish()
        code = await stream.code()
        assert code in MISTAKES | {grpc.StatusCode.OK}, f"{code}: {raw.hex()}"
    assert (await client.infer(frame("a"))).frame_id == "a"


async def test_calls_go_on(client: Client) -> None:
    source = random.Random(4)
    method = client.channel.unary_unary("/voxgate.v1.VoxelInference/Infer")

    async def infer(raw: bytes) -> bool:
        """Whether it was answered."""
        try:
            pb.InferResponse.FromString(await method(raw, timeout=TIMEOUT))
        except grpc.aio.AioRpcError as error:
            assert error.code() in MISTAKES, f"{error.code()} {error.details()}: {raw.hex()}"
            return False
        return True

    answered = 0
    for _ in range(CALLS // ROUND):
        batch = [raw for _ in range(ROUND) for raw in spoilt(source, [[f] for f in INFERS])]
        answered += sum(await asyncio.gather(*map(infer, batch)))
        assert (await client.infer(frame("good", 9, 9))).frame_id == "good"
    assert 0 < answered < CALLS
