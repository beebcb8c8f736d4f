# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""A flood over every limit: the answers name them, and the neighbours keep their share."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import re
from collections import Counter
from pathlib import Path

import grpc
import yaml
from tests.end_to_end.faults.busy_model import MODEL, busy_frame, busy_model
from tests.end_to_end.faults.conftest import StartProcess
from tests.end_to_end.faults.process import PATIENCE, ServerProcess
from tests.server.driver import TIMEOUT

from voxgate_protos import voxel_inference_pb2 as pb
from voxgate_server.tokens import hash_token, new_token

CONNECTIONS = 3
MAX_STREAMS = 6
QUEUED, MODEL_QUEUED = 4, 20
MAX_FRAME_BYTES, MAX_BYTES = 32 << 10, 40 << 10
# 5 ms and more of work in a frame, whoever sends it.
BOXES = 2500
LARGE_SITES = 1000  # 28 KB
FLOOD_CALLS = 30
FRAMES = 40
# What refusals say, as patterns.
STREAMS = rf"^max_streams: flooder has {MAX_STREAMS} open streams of at most {MAX_STREAMS}: "
# The calls of one client wait as one stream, which is bounded with the model.
STREAM_QUEUE = rf"^queue: ({QUEUED}|{MODEL_QUEUED}) frames of this stream are waiting, its limit: "
MODEL_QUEUE = rf"^queue: {MODEL_QUEUED} frames of this model are waiting, its limit"
BYTES = rf"^max_in_flight_bytes: flooder has \d+ bytes in flight of at most {MAX_BYTES}: "
LIMITS = {STREAMS, STREAM_QUEUE, MODEL_QUEUE, BYTES}
EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED


class Member:
    """One client: a token, and streams and calls that carry it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.token = new_token()
        self.entry = {"name": name, "sha256": hash_token(self.token)}
        self.metadata = (("authorization", f"Bearer {self.token}"),)

    def stream(self, channel: grpc.aio.Channel) -> grpc.aio.StreamStreamCall:
        return channel.stream_stream(
            "/voxgate.v1.VoxelInference/StreamInfer",
            pb.StreamRequest.SerializeToString,
            pb.StreamResponse.FromString,
        )(metadata=self.metadata)

    async def infer(self, channel: grpc.aio.Channel, frame: pb.Frame) -> pb.InferResponse:
        call = channel.unary_unary(
            "/voxgate.v1.VoxelInference/Infer",
            pb.InferRequest.SerializeToString,
            pb.InferResponse.FromString,
        )
        request = pb.InferRequest(model=MODEL, frame=frame)
        answer: pb.InferResponse = await call(request, metadata=self.metadata, timeout=TIMEOUT)
        return answer


class Flooder(Member):
    """Sends without an end and keeps what it is told; its answers and refusals, by message."""

    def __init__(self) -> None:
        super().__init__("flooder")
        self.answered = 0
        self.refusals: Counter[str] = Counter()

    def refused(self, message: str) -> None:
        self.refusals[message] += 1

    async def flood_stream(self, channel: grpc.aio.Channel) -> None:
        """Frames as fast as they go, until cancelled."""
        call = self.stream(channel)
        await call.write(pb.StreamRequest(open=pb.StreamOpen(model=MODEL, max_queued_frames=64)))
        assert (await asyncio.wait_for(call.read(), TIMEOUT)).HasField("opened")
        sending = asyncio.create_task(self._send(call))
        try:
            while isinstance(response := await call.read(), pb.StreamResponse):
                if response.HasField("error"):
                    assert response.error.code == EXHAUSTED.value[0], response.error
                    self.refused(response.error.message)
                else:
                    self.answered += 1
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
            call.cancel()

    async def _send(self, call: grpc.aio.StreamStreamCall) -> None:
        for number in itertools.count():
            await call.write(pb.StreamRequest(frame=busy_frame(f"{number}", BOXES)))
            await asyncio.sleep(0)

    async def flood_openings(self, channel: grpc.aio.Channel) -> None:
        """One stream too many after the other, until cancelled."""
        while True:
            call = self.stream(channel)
            assert await call.code() is EXHAUSTED
            self.refused(await call.details())

    async def flood_calls(self, channel: grpc.aio.Channel, sites: int) -> None:
        """One call of Infer after the other, until cancelled."""
        while True:
            try:
                await self.infer(channel, busy_frame("call", BOXES, count=sites))
                self.answered += 1
            except grpc.aio.AioRpcError as error:
                assert error.code() is EXHAUSTED, error
                self.refused(error.details())


async def keep_sending(member: Member, channel: grpc.aio.Channel, begun: asyncio.Event) -> None:
    """A vehicle: a frame at a time, each of which must have its result."""
    call = member.stream(channel)
    await call.write(pb.StreamRequest(open=pb.StreamOpen(model=MODEL)))
    assert (await asyncio.wait_for(call.read(), TIMEOUT)).HasField("opened")
    await begun.wait()
    for index in range(FRAMES):
        await call.write(pb.StreamRequest(frame=busy_frame(f"{index}", BOXES)))
        answer = await asyncio.wait_for(call.read(), TIMEOUT)
        assert answer.HasField("result"), f"{member.name}: {answer}"
        assert answer.result.frame_id == f"{index}"
    await call.done_writing()
    assert await call.code() is grpc.StatusCode.OK


async def test_a_flood_over_every_limit(start_process: StartProcess, tmp_path: Path) -> None:
    flooder, neighbours = Flooder(), [Member("left"), Member("right")]
    tokens = tmp_path / "tokens.yaml"
    tokens.touch(0o600)
    tokens.write_text(yaml.safe_dump([m.entry for m in (flooder, *neighbours)]))
    busy_model(tmp_path / "models" / MODEL / "1" / "model.onnx")
    server = await start_process(
        tmp_path / "models",
        tokens=tokens,
        max_batch_frames=1,
        max_queued_frames=QUEUED,
        queued_frames=QUEUED,
        max_model_queued_frames=MODEL_QUEUED,
        max_client_streams=MAX_STREAMS,
        max_frame_bytes=MAX_FRAME_BYTES,
        max_client_in_flight_bytes=MAX_BYTES,
    )
    async with contextlib.AsyncExitStack() as stack:
        channels = [
            await stack.enter_async_context(server.channel())
            for _ in range(CONNECTIONS + len(neighbours))
        ]
        flooding = channels[:CONNECTIONS]
        floods = [asyncio.create_task(flooder.flood_stream(flooding[0]))]
        await server.until(lambda _: reached(flooder) == {STREAM_QUEUE}, "a full stream")
        floods += [
            asyncio.create_task(flooder.flood_stream(flooding[index % CONNECTIONS]))
            for index in range(1, MAX_STREAMS)
        ]
        await server.until(lambda _: MODEL_QUEUE in reached(flooder), "a full model")
        floods += [asyncio.create_task(flooder.flood_openings(one)) for one in flooding] + [
            asyncio.create_task(flooder.flood_calls(flooding[index % CONNECTIONS], sites))
            for index in range(FLOOD_CALLS)
            for sites in (1, LARGE_SITES)
        ]
        begun = asyncio.Event()
        served = [
            asyncio.create_task(keep_sending(member, channel, begun))
            for member, channel in zip(neighbours, channels[CONNECTIONS:], strict=True)
        ]
        await server.until(lambda _: reached(flooder) == LIMITS, "refusal by every limit")
        before = flooder.answered
        begun.set()
        async with asyncio.timeout(3 * PATIENCE):
            await asyncio.gather(*served)
        during = flooder.answered - before
        for flood in floods:
            flood.cancel()
        outcomes = await asyncio.gather(*floods, return_exceptions=True)
    for outcome in outcomes:
        assert outcome is None or isinstance(outcome, asyncio.CancelledError), outcome

    # Turns go round over streams, and the calls of one client are as one: a neighbour's frame waits
    # for one of each of the flooder's seven. Twice that leaves its client time to send the next.
    assert during <= 2 * (MAX_STREAMS + 1) * FRAMES, during
    assert reached(flooder) == LIMITS
    await check_counts(server, flooder)


def reached(flooder: Flooder) -> set[str]:
    """The limits that its refusals name, with their values."""
    limits = set()
    for message in flooder.refusals:
        (limit,) = [one for one in LIMITS if re.search(one, message)] or [message]
        limits.add(limit)
    return limits


async def check_counts(server: ServerProcess, flooder: Flooder) -> None:
    scrape = await server.balanced()
    outcomes = scrape.outcomes()
    assert set(outcomes) <= {"ok", "overloaded", "cancelled"}
    assert outcomes["ok"] >= flooder.answered + 2 * FRAMES
    too_many = sum(n for message, n in flooder.refusals.items() if message.startswith("max_str"))
    assert outcomes["overloaded"] >= flooder.refusals.total() - too_many
    assert scrape.total("voxgate_active_streams") == 0
    closed = scrape.by("voxgate_streams_closed_total", "code")
    assert closed["RESOURCE_EXHAUSTED"] >= too_many
    assert closed["OK"] == 2
