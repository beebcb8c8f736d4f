# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Calls of one message: who is asked before it is read, and what is held until it is answered."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from tests.server.driver import Client, frame

from voxgate_protos import voxel_inference_pb2 as pb
from voxgate_server import voxel_service
from voxgate_server.security import Client as Caller


class PlayedCall:
    """A call's context; `write` waits until `reading` is set."""

    def __init__(self, *messages: bytes, metadata: tuple[tuple[str, str], ...] = ()) -> None:
        self._messages = list(messages)
        self._metadata = metadata
        self.asked = 0
        self.written: list[bytes] = []
        self.writing = asyncio.Event()
        self.reading = asyncio.Event()
        self.broken = False
        self.code: grpc.StatusCode | None = None
        self.details = ""

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return self._metadata

    def peer(self) -> str:
        return "ipv4:10.0.0.1:1"

    def auth_context(self) -> dict[str, list[bytes]]:
        return {}

    def time_remaining(self) -> None:
        return None

    async def read(self) -> object:
        self.asked += 1
        return self._messages.pop(0) if self._messages else grpc.aio.EOF

    async def write(self, message: bytes) -> None:
        self.writing.set()
        await self.reading.wait()
        if self.broken:
            raise RuntimeError("the connection is gone")
        self.written.append(message)

    async def abort(self, code: grpc.StatusCode, details: str) -> None:
        self.code, self.details = code, details
        raise grpc.aio.AbortError


def begin(client: Client, method: str, call: PlayedCall) -> asyncio.Task[Any]:
    details: Any = SimpleNamespace(method=f"/voxgate.v1.VoxelInference/{method}")
    handler: Any = client.app.service.handler().service(details)
    return asyncio.create_task(handler.stream_stream(None, call))


def request(frame_id: str = "a", **fields: Any) -> bytes:
    sent = pb.InferRequest(model="voxels", frame=frame(frame_id), **fields)
    return sent.SerializeToString()


def in_flight(client: Client) -> int:
    return client.app.service._admission.bytes.used


async def test_an_answer_is_held_and_uncounted_until_it_is_accepted(client: Client) -> None:
    call = PlayedCall(request())
    task = begin(client, "Infer", call)
    await asyncio.wait_for(call.writing.wait(), 10)
    assert in_flight(client) > len(request())
    assert client.counted() == (1, 0)
    draining = asyncio.create_task(client.app.service.drain(10))
    await asyncio.sleep(0.01)
    assert not draining.done()
    call.reading.set()
    await task
    await asyncio.wait_for(draining, 10)
    assert [len(call.written), in_flight(client), client.outcomes()] == [1, 0, {"ok": 1}]


async def test_an_answer_that_nobody_takes_is_a_cancelled_frame(client: Client) -> None:
    gone, cancelled = PlayedCall(request()), PlayedCall(request())
    gone.broken = True
    gone.reading.set()
    await begin(client, "Infer", gone)
    task = begin(client, "Infer", cancelled)
    await asyncio.wait_for(cancelled.writing.wait(), 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (in_flight(client), client.outcomes()) == (0, {"cancelled": 2})


async def test_an_answer_that_nobody_takes_gives_up_scarce_memory(
    client: Client, monkeypatch
) -> None:
    monkeypatch.setattr(voxel_service, "STALL_SECONDS", 0.1)
    watching = asyncio.create_task(client.app.service.watch_memory())
    call = PlayedCall(request())
    task = begin(client, "Infer", call)
    await asyncio.wait_for(call.writing.wait(), 10)
    await asyncio.sleep(0.3)
    assert not task.done()  # there is room for it
    admission = client.app.service._admission
    admission.bytes.acquire(admission.bytes.limit)
    with pytest.raises(grpc.aio.AbortError):
        await asyncio.wait_for(task, 10)
    assert call.code == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert client.outcomes() == {"overloaded": 1}
    admission.bytes.release(admission.bytes.limit)
    assert in_flight(client) == 0
    watching.cancel()


@pytest.mark.parametrize("method", ["Infer", "ListModels", "GetModel", "StreamInfer"])
async def test_nothing_is_read_for_a_stranger(start_server, tmp_path: Path, method: str) -> None:
    tokens = tmp_path / "tokens.yaml"
    tokens.write_text(f"- name: robot\n  sha256: {hashlib.sha256(b'secret').hexdigest()}\n")
    client = await start_server(tokens=tokens)
    call = PlayedCall(request(), metadata=(("authorization", "Bearer guess"),))
    with pytest.raises(grpc.aio.AbortError):
        await begin(client, method, call)
    assert (call.code, call.asked) == (grpc.StatusCode.UNAUTHENTICATED, 0)


async def test_nothing_is_read_of_a_call_when_memory_is_at_its_limit(client: Client) -> None:
    admission = client.app.service._admission
    admission.bytes.acquire(admission.bytes.limit)
    call = PlayedCall(request())
    with pytest.raises(grpc.aio.AbortError):
        await begin(client, "Infer", call)
    assert (call.code, call.asked) == (grpc.StatusCode.RESOURCE_EXHAUSTED, 0)
    assert client.outcomes() == {"overloaded": 1}
    admission.bytes.release(admission.bytes.limit)


async def test_a_call_without_a_message_is_invalid(client: Client) -> None:
    call = PlayedCall()
    with pytest.raises(grpc.aio.AbortError):
        await begin(client, "Infer", call)
    assert (call.code, call.details) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "the call has no message",
    )


async def test_an_oversized_call_ends_and_is_counted(start_server) -> None:
    client = await start_server(max_frame_bytes=10_000)
    refused = await client.failed_infer(_huge())
    assert refused.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    received, counted = client.counted()
    assert received == counted
    assert (await client.infer(frame("small"))).frame_id == "small"


def _huge() -> pb.Frame:
    return pb.Frame(frame_id="big", voxels=pb.SparseVoxels(coords=bytes(2 << 20)))


@pytest.mark.parametrize("method", ["Infer", "StreamInfer", "GetModel"])
async def test_a_failure_of_the_server_is_internal_and_tells_no_secrets(
    client: Client, monkeypatch, method: str
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("of the server's own")

    service = client.app.service
    monkeypatch.setattr(service, "_run_frame", broken)
    monkeypatch.setattr(service, "_session", broken)
    monkeypatch.setattr(service._models, "get", broken)
    call = PlayedCall(request())
    with pytest.raises(grpc.aio.AbortError):
        await begin(client, method, call)
    assert call.code == grpc.StatusCode.INTERNAL
    assert "own" not in call.details
    assert client.outcomes() == ({"failed": 1} if method == "Infer" else {})


async def test_a_status_stays_below_grpcs_limit_on_headers(client: Client) -> None:
    names = ["🚗" * 5000]
    error = await client.failed_infer(frame("a"), outputs=names)
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT


async def test_infer_has_no_higher_priority_than_its_client(client: Client) -> None:
    served = client.app.models.find("voxels", "", _caller(0))
    queues = [served.unary_queue(_caller(highest)) for highest in (-3, 0, 5)]
    assert [queue.priority for queue in queues] == [-3, 0, 0]
    assert served.unary_queue(_caller(-3)) is queues[0]


def _caller(max_priority: int) -> Caller:
    return Caller("robot", "robot", None, max_priority, 1, 1 << 20)
