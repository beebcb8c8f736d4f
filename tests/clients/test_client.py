# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""The sync and the asyncio client against a server in this process."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any, TypeAlias

import grpc
import numpy as np
import pytest

from voxgate_client import (
    AsyncVoxgateClient,
    Frame,
    FrameFailure,
    FrameResult,
    MessageError,
    QueuePolicy,
    StreamOptions,
    VoxgateClient,
    VoxgateRpcError,
)
from voxgate_protos import voxel_inference_pb2 as pb

FakeServer: TypeAlias = Any  # the one of conftest.py
MAX_FRAME_BYTES = 1 << 20  # as it says
POINTS = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)


@pytest.fixture
def client(fake_server: FakeServer):
    with VoxgateClient(fake_server.target, timeout=10) as made:
        yield made


def ids(answers: list) -> list[str]:
    return [answer.frame_id for answer in answers]


def test_models(client: VoxgateClient) -> None:
    (model,) = client.list_models()
    assert (model.name, model.version, model.state) == ("unet", "3", "READY")
    assert model.grid is not None and model.grid.shape == (16, 32, 32)
    assert model.class_names == ("ground", "tree")
    assert client.get_model("unet") == model
    with pytest.raises(VoxgateRpcError, match="NOT_FOUND: no model 'vnet'") as caught:
        client.get_model("vnet")
    assert caught.value.code is grpc.StatusCode.NOT_FOUND


def test_infer_points_and_voxels(client: VoxgateClient, fake_server: FakeServer) -> None:
    result = client.infer("unet", points=POINTS, sensor_id="roof")
    np.testing.assert_array_equal(result.outputs["label"], np.arange(20) % 2)
    assert (result.sensor_id, result.version, result.timing.execute_us) == ("roof", "3", 4)
    assert result.client_seconds > 0
    client.infer("unet", coords=np.zeros((2, 3), int), features=POINTS[:2])
    assert [f.WhichOneof("payload") for f in fake_server.frames] == ["points", "voxels"]


def test_infer_errors(client: VoxgateClient) -> None:
    with pytest.raises(VoxgateRpcError, match="INVALID_ARGUMENT: bad frame"):
        client.infer("unet", points=POINTS, frame_id="bad")
    with pytest.raises(VoxgateRpcError, match="NOT_FOUND"):
        client.infer("vnet", points=POINTS)
    too_big = np.zeros((MAX_FRAME_BYTES // 16 + 1, 4), np.float32)
    with pytest.raises(MessageError, match=f"{too_big.nbytes} bytes, the server takes at most"):
        client.infer("unet", points=too_big)


def test_frames_and_answers_above_grpcs_default_limit(fake_server: FakeServer) -> None:
    fake_server.models["unet"].max_frame_bytes = 64 << 20
    points = np.zeros((2_000_000, 4), np.float32)
    with VoxgateClient(fake_server.target) as client:
        assert client.infer("unet", points=points).outputs["label"].nbytes == 8_000_000
    with (
        VoxgateClient(fake_server.target, max_answer_bytes=1 << 20) as client,
        pytest.raises(VoxgateRpcError, match="RESOURCE_EXHAUSTED"),
    ):
        client.infer("unet", points=points)


def test_no_server() -> None:
    with VoxgateClient("127.0.0.1:1", timeout=5) as client:
        for call in (client.list_models, lambda: client.open_stream("unet")):
            with pytest.raises(VoxgateRpcError, match="UNAVAILABLE"):
                call()


def test_stream_answers_every_frame_in_order(client: VoxgateClient) -> None:
    with client.open_stream("unet") as stream:
        assert stream.model.name == "unet" and stream.max_queued_frames == 4
        sent = [stream.send(Frame(POINTS[:n])) for n in range(1, 8)]
        sent.append(stream.send(Frame(POINTS, frame_id="bad")))
        stream.close_sending()
        answers = list(stream)
        assert ids(answers) == sent and stream.num_unanswered == 0
    assert all(isinstance(answer, FrameResult) for answer in answers[:-1])
    assert [len(answer.outputs["label"]) for answer in answers[:-1]] == list(range(1, 8))
    assert isinstance(answers[-1], FrameFailure)
    assert (answers[-1].code, answers[-1].message) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "bad frame",
    )


def test_stream_options_reach_the_server(client: VoxgateClient, fake_server: FakeServer) -> None:
    options = StreamOptions("3", ("label",), QueuePolicy.LATEST, 2, 0.25, 7, True)
    with client.open_stream("unet", options) as stream:
        assert stream.max_queued_frames == 2
    (opening,) = fake_server.opened
    assert (opening.version, list(opening.outputs), opening.policy) == ("3", ["label"], pb.LATEST)
    assert (opening.frame_deadline.ToMilliseconds(), opening.priority) == (250, 7)
    assert opening.unordered


def test_opening_a_stream_fails(client: VoxgateClient, fake_server: FakeServer) -> None:
    with pytest.raises(VoxgateRpcError, match="NOT_FOUND: no model 'vnet'"):
        client.open_stream("vnet")
    fake_server.proceed.clear()
    with pytest.raises(VoxgateRpcError, match=r"DEADLINE_EXCEEDED: .* not accepted in 0\.2 s"):
        client.open_stream("unet", timeout=0.2)
    fake_server.proceed.set()


def test_chunks(client: VoxgateClient, fake_server: FakeServer) -> None:
    with client.open_stream("unet") as stream:
        stream.send(Frame(POINTS, frame_id="whole"), chunk_rows=8)
        stream.send_parts((Frame(POINTS[i : i + 10]) for i in (0, 10)), "turning")
        stream.close_sending()
        assert ids(list(stream)) == ["whole", "turning"]
    assert [(c.part.frame_id, c.index, c.last) for c in fake_server.chunks] == [
        ("whole", 0, False), ("whole", 1, False), ("whole", 2, True),
        ("turning", 0, False), ("turning", 1, True),
    ]  # fmt: skip
    joined = b"".join(c.part.points.points for c in fake_server.chunks[:3])
    assert joined == POINTS.tobytes()


def test_part_that_fails_cancels_the_frame(client: VoxgateClient, fake_server: FakeServer) -> None:
    def parts():
        yield Frame(POINTS)
        yield Frame(POINTS)
        while not fake_server.chunks:
            time.sleep(0.001)
        raise RuntimeError("the sensor stopped")

    with client.open_stream("unet") as stream:
        with pytest.raises(RuntimeError, match="the sensor stopped"):
            stream.send_parts(parts(), "half")
        with pytest.raises(MessageError, match="has no part"):
            stream.send_parts([], "none")
        stream.close_sending()
        (answer,) = list(stream)
    assert (answer.frame_id, answer.code) == ("half", grpc.StatusCode.CANCELLED)
    assert fake_server.cancelled == ["half"]


def test_frame_that_cannot_be_sent_costs_only_itself(client: VoxgateClient) -> None:
    with client.open_stream("unet") as stream:
        for bad in (Frame(POINTS[0]), Frame(np.zeros((MAX_FRAME_BYTES, 4), np.float32))):
            with pytest.raises(MessageError):
                stream.send(bad)
        stream.send(Frame(POINTS, frame_id="good"))
        stream.close_sending()
        assert ids(list(stream)) == ["good"]


def test_cancel(client: VoxgateClient, fake_server: FakeServer) -> None:
    with client.open_stream("unet") as stream:
        stream.send(Frame(POINTS, frame_id="hold"))
        with pytest.raises(MessageError, match="frame hold of this stream is still unanswered"):
            stream.send(Frame(POINTS, frame_id="hold"))
        stream.cancel("hold")
        answer = stream.receive(timeout=10)
    assert isinstance(answer, FrameFailure) and answer.code is grpc.StatusCode.CANCELLED


@pytest.mark.parametrize("script", ["abort", "close"])
def test_broken_stream_reports_unanswered_frames(
    script: str, client: VoxgateClient, fake_server: FakeServer
) -> None:
    with client.open_stream("unet", reconnect=False) as stream:
        stream.send(Frame(POINTS, frame_id="hold 1"))
        stream.send(Frame(POINTS, frame_id="hold 2"))
        while len(fake_server.frames) < 2:
            time.sleep(0.001)
        if script == "abort":
            fake_server.script = "abort"
            stream.send(Frame(POINTS, frame_id="last"))
        else:
            stream.close_sending()
        answers = list(stream)
    assert ids(answers) == ["hold 1", "hold 2", "last"][: 2 + (script == "abort")]
    assert {answer.code for answer in answers} == {grpc.StatusCode.UNAVAILABLE}
    wanted = "INTERNAL: engine on fire" if script == "abort" else "the server closed the stream"
    assert all(wanted in answer.message for answer in answers)
    with pytest.raises(VoxgateRpcError):
        stream.send(Frame(POINTS))


def test_server_killed_under_a_stream(client: VoxgateClient, fake_server: FakeServer) -> None:
    with client.open_stream("unet", reconnect=False) as stream:
        stream.send(Frame(POINTS, frame_id="hold"))
        while not fake_server.frames:
            time.sleep(0.01)
        fake_server.grpc_server.stop(0)
        (answer,) = list(stream)
    assert answer.frame_id == "hold" and answer.code is grpc.StatusCode.UNAVAILABLE


def test_leaving_a_stream_cancels_what_is_unanswered(client: VoxgateClient) -> None:
    with client.open_stream("unet") as stream:
        stream.send(Frame(POINTS, frame_id="hold"))
    (answer,) = list(stream)
    assert (answer.frame_id, answer.code) == ("hold", grpc.StatusCode.CANCELLED)
    assert stream.receive() is None


def test_each_id_is_answered_once_whatever_the_server_says(
    client: VoxgateClient, fake_server: FakeServer
) -> None:
    for script in ("twice", "stray"):
        fake_server.script = script
        with client.open_stream("unet") as stream:
            sent = [stream.send(Frame(POINTS)) for _ in range(3)]
            stream.close_sending()
            assert ids(list(stream)) == sent
        assert [n.kind for n in stream.notices] == ["UNMATCHED"] * 3 * (script == "stray")


def test_answer_that_contradicts_itself_fails_its_frame(
    client: VoxgateClient, fake_server: FakeServer
) -> None:
    fake_server.script = "short answer"
    with client.open_stream("unet") as stream:
        stream.send(Frame(POINTS))
        answer = stream.receive(timeout=10)
    assert isinstance(answer, FrameFailure) and answer.code is grpc.StatusCode.INTERNAL
    assert "80 bytes, got 79" in answer.message
    with pytest.raises(MessageError, match="80 bytes, got 79"):
        client.infer("unet", points=POINTS)


def test_notices(client: VoxgateClient, fake_server: FakeServer) -> None:
    fake_server.script = "notice"
    with client.open_stream("unet") as stream:
        stream.send(Frame(POINTS))
        stream.close_sending()
        assert len(list(stream)) == 1
    (notice,) = stream.notices
    assert (notice.kind, notice.message) == ("MODEL_RELOADED", "new")
    assert notice.model is not None and notice.model.version == "3"


def test_max_in_flight_makes_send_wait(client: VoxgateClient) -> None:
    with client.open_stream("unet", max_in_flight=2) as stream:
        stream.send(Frame(POINTS, frame_id="hold 1"))
        stream.send(Frame(POINTS, frame_id="hold 2"))
        with pytest.raises(TimeoutError, match="2 frames unanswered after 0.05 s"):
            stream.send(Frame(POINTS), timeout=0.05)
        threading.Timer(0.1, stream.cancel, ["hold 1"]).start()
        assert stream.send(Frame(POINTS, frame_id="next"), timeout=10) == "next"
    assert sorted(ids(list(stream))) == ["hold 1", "hold 2", "next"]


def test_closing_frees_a_thread_that_waits_to_send(client: VoxgateClient) -> None:
    stream = client.open_stream("unet", max_in_flight=1)
    stream.send(Frame(POINTS, frame_id="hold"))
    ended: list[VoxgateRpcError] = []

    def send() -> None:
        try:
            stream.send(Frame(POINTS))
        except VoxgateRpcError as error:
            ended.append(error)

    sending = threading.Thread(target=send, daemon=True)
    sending.start()
    while not stream._sending.locked():
        time.sleep(0.001)
    closing = threading.Thread(target=stream.close, daemon=True)
    closing.start()
    closing.join(10)
    sending.join(10)
    assert not closing.is_alive() and len(ended) == 1
    assert ids(list(stream)) == ["hold"]


def test_receive_times_out(client: VoxgateClient) -> None:
    with client.open_stream("unet") as stream, pytest.raises(TimeoutError, match="0.05 s"):
        stream.receive(timeout=0.05)


# ---- asyncio -----------------------------------------------------------------------------------


async def test_async_calls(fake_server: FakeServer) -> None:
    async with AsyncVoxgateClient(fake_server.target, timeout=10) as client:
        assert [m.name for m in await client.list_models()] == ["unet"]
        result = await client.infer("unet", points=POINTS)
        np.testing.assert_array_equal(result.outputs["label"], np.arange(20) % 2)
        with pytest.raises(VoxgateRpcError, match="NOT_FOUND"):
            await client.get_model("vnet")
        with pytest.raises(VoxgateRpcError, match="INVALID_ARGUMENT"):
            await client.infer("unet", points=POINTS, frame_id="bad")


async def test_async_stream(fake_server: FakeServer) -> None:
    async with (
        AsyncVoxgateClient(fake_server.target, timeout=10) as client,
        await client.open_stream("unet", max_in_flight=2) as stream,
    ):
        assert stream.model.name == "unet"

        async def send_all() -> list[str]:
            sent = [await stream.send(Frame(POINTS)) for _ in range(6)]
            sent.append(await stream.send(Frame(POINTS), chunk_rows=7))
            sent.append(await stream.send(Frame(POINTS, frame_id="bad")))
            await stream.close_sending()
            return sent

        sending = asyncio.create_task(send_all())
        answers = [answer async for answer in stream]
        assert ids(answers) == await sending
        assert isinstance(answers[-1], FrameFailure) and isinstance(answers[-2], FrameResult)
        assert len(fake_server.chunks) == 3


async def test_async_open_fails(fake_server: FakeServer) -> None:
    async with AsyncVoxgateClient(fake_server.target, timeout=10) as client:
        with pytest.raises(VoxgateRpcError, match="NOT_FOUND: no model 'vnet'"):
            await client.open_stream("vnet")
        fake_server.proceed.clear()
        with pytest.raises(VoxgateRpcError, match="DEADLINE_EXCEEDED"):
            await client.open_stream("unet", timeout=0.2)
        fake_server.proceed.set()
    async with AsyncVoxgateClient("127.0.0.1:1", timeout=5) as client:
        with pytest.raises(VoxgateRpcError, match="UNAVAILABLE"):
            await client.open_stream("unet")


async def test_async_open_that_is_cancelled_leaves_no_call(fake_server: FakeServer) -> None:
    fake_server.proceed.clear()
    async with AsyncVoxgateClient(fake_server.target, timeout=10) as client:
        before = asyncio.all_tasks()
        opening = asyncio.create_task(client.open_stream("unet"))
        while not fake_server.opened:
            await asyncio.sleep(0.01)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        assert not [task for task in asyncio.all_tasks() - before if "voxgate" in task.get_name()]
    fake_server.proceed.set()


async def test_async_broken_stream(fake_server: FakeServer) -> None:
    async with (
        AsyncVoxgateClient(fake_server.target, timeout=10) as client,
        await client.open_stream("unet", reconnect=False) as stream,
    ):
        await stream.send(Frame(POINTS, frame_id="hold"))
        while not fake_server.frames:
            await asyncio.sleep(0.001)
        fake_server.script = "abort"
        await stream.send(Frame(POINTS, frame_id="last"))
        answers = [answer async for answer in stream]
        assert ids(answers) == ["hold", "last"]
        assert {answer.code for answer in answers} == {grpc.StatusCode.UNAVAILABLE}
        assert "engine on fire" in answers[0].message
        with pytest.raises(VoxgateRpcError, match="stream is over"):
            await stream.send(Frame(POINTS))


async def test_async_leaving_and_cancelling(fake_server: FakeServer) -> None:
    async with AsyncVoxgateClient(fake_server.target, timeout=10) as client:
        async with await client.open_stream("unet") as stream:
            await stream.send(Frame(POINTS, frame_id="hold"))
            await stream.cancel("hold")
            answer = await stream.receive()
            assert answer is not None and answer.frame_id == "hold"
            await stream.send(Frame(POINTS, frame_id="hold again"))
        (left,) = [answer async for answer in stream]
        assert (left.frame_id, left.code) == ("hold again", grpc.StatusCode.CANCELLED)
