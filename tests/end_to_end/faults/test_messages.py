# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Oversized, unparsable and empty messages: each is answered, and so is the next good frame."""

from __future__ import annotations

import grpc
import numpy as np
import pytest
from tests.end_to_end.faults.conftest import StartProcess
from tests.end_to_end.faults.process import ServerProcess, opened
from tests.server.driver import TIMEOUT, Stream, frame, voxels

from voxgate_protos import voxel_inference_pb2 as pb
from voxgate_protos import voxel_inference_pb2_grpc as pb_grpc

MAX_FRAME_BYTES = 64 << 10
# What gRPC takes: 2 × max_frame_bytes + 1 MiB.
GRPC_LIMIT = 2 * MAX_FRAME_BYTES + (1 << 20)
INVALID = grpc.StatusCode.INVALID_ARGUMENT
UNPARSABLE = {
    "noise": b"\xff" * 5,
    "a field cut short": b"\x12\x7f\x0a",
    "wire type 7": b"\x17" + bytes(20),
    "a varint of eleven bytes": b"\x08" + b"\x80" * 11,
    "noise above what is cut": bytes(np.random.default_rng(0).integers(0, 256, 9000, np.uint8)),
    "text that is not UTF-8": b"\x12\x04\x0a\x02\xc3\x28",
}
# Parsed without complaint, but none of the members a client may send.
EMPTY = {
    "nothing": b"",
    "an unknown field": b"\xa2\x06\x03abc",
    "an unknown field of 32 KiB": b"\xa2\x06\x80\x80\x02" + bytes(1 << 15),
}


async def limited(start_process: StartProcess) -> ServerProcess:
    return await start_process(max_frame_bytes=MAX_FRAME_BYTES)


def oversized(frame_id: str, size: int) -> pb.Frame:
    """A frame whose features take `size` bytes."""
    coords = np.zeros((size // 8, 3), np.int32)
    features = np.zeros((size // 8, 2), np.float32)
    return pb.Frame(frame_id=frame_id, voxels=voxels(coords, features))


async def answered(stream: Stream, frame_id: str) -> None:
    await stream.send(frame=frame(frame_id))
    assert (await stream.result()).frame_id == frame_id


async def infer(channel: grpc.aio.Channel, raw: bytes) -> pb.InferResponse:
    call = channel.unary_unary(
        "/voxgate.v1.VoxelInference/Infer", response_deserializer=pb.InferResponse.FromString
    )
    answer: pb.InferResponse = await call(raw, timeout=TIMEOUT)
    return answer


async def failed_infer(channel: grpc.aio.Channel, raw: bytes) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await infer(channel, raw)
    return failed.value


async def test_a_stream_outlives_messages_that_are_none(start_process: StartProcess) -> None:
    server = await limited(start_process)
    async with server.channel() as channel:
        stream = await opened(channel)
        for name, raw in (UNPARSABLE | EMPTY).items():
            await stream.send_raw(raw)
            error = await stream.error()
            assert (error.frame_id, error.code) == ("", INVALID.value[0]), name
            assert f"message of {len(raw)} bytes" in error.message
            await answered(stream, name)
        count = len(UNPARSABLE | EMPTY)
        assert (await server.balanced()).outcomes() == {"invalid": count, "ok": count}
        assert await stream.finish() == []
        assert await stream.code() is grpc.StatusCode.OK


async def test_messages_that_are_none_before_a_stream_is_open(start_process: StartProcess) -> None:
    """They are answered too; only a message of another kind ends the stream, which has no model."""
    server = await limited(start_process)
    async with server.channel() as channel:
        stream = Stream(channel)
        for raw in (UNPARSABLE | EMPTY).values():
            await stream.send_raw(raw)
            assert (await stream.error()).code == INVALID.value[0]
        await stream.open()
        await answered(stream, "after")
        await stream.finish()
        early = Stream(channel)
        await early.send(frame=frame("too early"))
        assert await early.code() is INVALID
        assert "the first message must be open, got frame" in await early.details()
        scrape = await server.balanced()
        assert scrape.outcomes() == {"invalid": len(UNPARSABLE | EMPTY), "ok": 1}


async def test_calls_of_infer_that_are_none(start_process: StartProcess) -> None:
    server = await limited(start_process)
    good = pb.InferRequest(model="voxels", frame=frame("good")).SerializeToString()
    async with server.channel() as channel:
        for name, raw in UNPARSABLE.items():
            error = await failed_infer(channel, raw)
            assert error.code() is INVALID, name
            assert f"message of {len(raw)} bytes" in error.details()
            assert (await infer(channel, good)).frame_id == "good"
        for raw in EMPTY.values():
            error = await failed_infer(channel, raw)
            assert error.code() is grpc.StatusCode.NOT_FOUND
        error = await failed_infer(channel, pb.InferRequest(model="voxels").SerializeToString())
        assert error.code() is INVALID
        assert (await infer(channel, good)).frame_id == "good"
        scrape = await server.balanced()
        assert scrape.outcomes() == {
            "invalid": len(UNPARSABLE) + len(EMPTY) + 1,
            "ok": len(UNPARSABLE) + 1,
        }


async def test_a_frame_above_the_limit_costs_that_frame(start_process: StartProcess) -> None:
    server = await limited(start_process)
    large = oversized("large", MAX_FRAME_BYTES)  # with its coordinates 2.5 × the limit
    async with server.channel() as channel:
        stream = await opened(channel)
        await stream.send(frame=large)
        error = await stream.error()
        assert (error.frame_id, error.code) == ("large", INVALID.value[0])
        assert str(MAX_FRAME_BYTES) in error.message
        await answered(stream, "next")

        part = pb.Frame(frame_id="pieces", voxels=oversized("", MAX_FRAME_BYTES // 4).voxels)
        for index in range(4):  # the limit is passed on the way, not in any one of them
            chunk = pb.FrameChunk(part=part, index=index, last=index == 3)
            await stream.send(chunk=chunk)
        error = await stream.error()
        assert (error.frame_id, error.code) == ("pieces", INVALID.value[0])
        assert str(MAX_FRAME_BYTES) in error.message
        await answered(stream, "after the pieces")

        raw = pb.InferRequest(model="voxels", frame=large).SerializeToString()
        failure = await failed_infer(channel, raw)
        assert failure.code() is INVALID and str(MAX_FRAME_BYTES) in failure.details()
        good = pb.InferRequest(model="voxels", frame=frame("good")).SerializeToString()
        assert (await infer(channel, good)).frame_id == "good"
        assert (await server.balanced()).outcomes() == {"invalid": 3, "ok": 3}
        await stream.finish()


async def test_a_message_above_grpcs_limit_costs_its_call(start_process: StartProcess) -> None:
    """gRPC itself ends that call; the connection and the other calls on it go on."""
    server = await limited(start_process)
    async with server.channel() as channel:
        victim, other = await opened(channel), await opened(channel)
        await answered(victim, "before")
        await victim.send_raw(bytes(GRPC_LIMIT + 1))
        assert await victim.rest() == []
        assert await victim.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert str(GRPC_LIMIT) in await victim.details()
        await answered(other, "other")

        failure = await failed_infer(channel, bytes(GRPC_LIMIT + 1))
        assert failure.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert str(GRPC_LIMIT) in failure.details()
        request = pb.InferRequest(model="voxels", frame=frame("good"))
        stub = pb_grpc.VoxelInferenceStub(channel)
        assert (await stub.Infer(request, timeout=TIMEOUT)).frame_id == "good"

        again = await opened(channel)
        await answered(again, "again")
        scrape = await server.until(
            lambda s: s.total("voxgate_streams_closed_total") == 1 and s.balanced,
            "count of the ended stream",
        )
        assert scrape.outcomes() == {"ok": 4}
        await other.finish()
        await again.finish()


async def test_what_a_message_above_grpcs_limit_leaves_unanswered_is_cancelled(
    start_process: StartProcess,
) -> None:
    server = await limited(start_process)
    async with server.channel() as channel:
        stream = await opened(channel)
        await stream.send(chunk=pb.FrameChunk(part=frame("arriving"), index=0))
        await stream.send_raw(bytes(GRPC_LIMIT + 1))
        assert await stream.rest() == []
        assert await stream.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        scrape = await server.until(
            lambda s: s.total("voxgate_streams_closed_total") == 1, "count of the ended stream"
        )
        assert scrape.balanced and scrape.outcomes() == {"cancelled": 1}, str(scrape)
        assert scrape.total("voxgate_active_streams") == 0
