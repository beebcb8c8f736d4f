# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Bad input of every kind: the documented code, the values in the message, a stream that lives."""

from __future__ import annotations

import resource
from collections.abc import Callable
from pathlib import Path

import grpc
import numpy as np
import pytest
from tests.server.driver import (
    Client,
    Stream,
    arrays,
    chunks,
    cloud,
    frame,
    random_sites,
    voxels,
)

from voxgate_protos import voxel_inference_pb2 as pb

INVALID = grpc.StatusCode.INVALID_ARGUMENT
NAN, INF = float("nan"), float("inf")


def with_sites(*sites: tuple[int, int, int]) -> pb.Frame:
    coords = np.array(sites, np.int32)
    return pb.Frame(frame_id="bad", voxels=voxels(coords, np.ones((len(coords), 2), np.float32)))


def with_features(value: float) -> pb.Frame:
    coords, features = random_sites(5)
    features[3, 1] = value
    return pb.Frame(frame_id="bad", voxels=voxels(coords, features))


def with_points(**changed: object) -> pb.Frame:
    payload = cloud(np.ones((3, 4)))
    for name, value in changed.items():
        setattr(payload, name, value)
    return pb.Frame(frame_id="bad", points=payload)


# A frame for the model `voxels` (grid 8 × 16 × 16, two features), and what its error says.
VOXEL_FRAMES: dict[str, tuple[pb.Frame, list[str]]] = {
    "features four bytes short": (
        frame("bad", 5, 0, features=bytes(36)),
        ["features: expected 5 × 2 float32 = 40 bytes, got 36"],
    ),
    "features one byte long": (
        frame("bad", 5, 0, features=bytes(41)),
        ["features: expected 5 × 2 float32 = 40 bytes, got 41"],
    ),
    "coords missing": (
        frame("bad", 5, 0, coords=b""),
        ["coords: expected 5 × 3 int32 = 60 bytes, got 0"],
    ),
    "coords of another width": (
        frame("bad", 5, 0, coords_dtype=pb.INT16),
        ["coords: expected 5 × 3 int16 = 30 bytes, got 60"],
    ),
    "features of another width": (
        frame("bad", 5, 0, features_dtype=pb.BFLOAT16),
        ["features: expected 5 × 2 bfloat16 = 20 bytes, got 40"],
    ),
    "count off by one": (frame("bad", 5, 0, num_sites=6), ["expected 6 × 3 int32 = 72 bytes"]),
    "count that would fill memory": (
        frame("bad", 5, 0, num_sites=2**32 - 1),
        ["4294967295 sites, the limit is 1000"],
    ),
    "count within the limit, bytes missing": (
        frame("bad", 5, 0, num_sites=1000),
        ["coords: expected 1000 × 3 int32 = 12000 bytes, got 60"],
    ),
    "coords type unset": (frame("bad", 5, 0, coords_dtype=0), ["DATA_TYPE_UNSPECIFIED", "INT16"]),
    "coords type float": (frame("bad", 5, 0, coords_dtype=pb.FLOAT32), ["FLOAT32", "INT32"]),
    "features type integer": (frame("bad", 5, 0, features_dtype=pb.INT8), ["INT8", "BFLOAT16"]),
    "features type unknown": (frame("bad", 5, 0, features_dtype=77), ["77", "FLOAT32"]),
    "encoding unknown": (frame("bad", 5, 0, coords_encoding=3), ["coords_encoding: 3", "PLAIN"]),
    "features of another count": (frame("bad", 5, 0, num_features=3), ["num_features: 3", "2"]),
    "not a number": (with_features(NAN), ["features: row 3 column 1 is nan"]),
    "infinite": (with_features(-INF), ["features: row 3 column 1 is -inf"]),
    "site above the grid": (with_sites((0, 0, 0), (7, 16, 0)), ["16", "1"]),
    "site far above the grid": (with_sites((0, 0, 2**31 - 1)), ["2147483647", "16"]),
    "negative site": (with_sites((0, -1, 0)), ["-1"]),
    "duplicate site": (with_sites((1, 2, 3), (0, 0, 0), (1, 2, 3)), ["1, 2, 3"]),
    "points for a voxel model": (with_points(), ["payload: points, the model takes voxels"]),
    "no payload": (pb.Frame(frame_id="bad"), ["payload: none"]),
    "too many sites": (frame("bad", 1001), ["1001 sites, the limit is 1000"]),
    "too many bytes": (
        frame("bad", 5, 0, features=bytes(40_000)),
        ["40060 bytes of payload, the limit is 40000"],
    ),
    "no id": (frame("", 5), ["frame_id: expected 1 to 128 bytes, got 0"]),
    "id too long": (frame("ü" * 65), ["frame_id: expected 1 to 128 bytes, got 130"]),
}

POINT_FRAMES: dict[str, tuple[pb.Frame, list[str]]] = {
    "bytes off": (with_points(points=bytes(44)), ["points: expected 3 × 4 float32 = 48", "got 44"]),
    "fields off": (with_points(num_fields=3), ["num_fields: 3, the model takes 4"]),
    "type off": (with_points(dtype=pb.INT32), ["points.dtype: INT32"]),
    "too many": (with_points(num_points=1001), ["1001 points, the limit is 1000"]),
    "feature not finite": (
        pb.Frame(frame_id="bad", points=cloud(np.array([[1, 1, 1, 1], [1, 1, 1, NAN]]))),
        ["points: row 1 column 3 is nan"],
    ),
    "voxels for a points model": (frame("bad"), ["payload: voxels, the model takes points"]),
}

LIMITS = {"max_frame_sites": 1000, "max_frame_bytes": 40_000}


def good(model: str) -> pb.Frame:
    if model == "points":
        return pb.Frame(frame_id="good", points=cloud(np.ones((2, 4))))
    return frame("good", 989)


CASES = [("voxels", name) for name in VOXEL_FRAMES] + [("points", name) for name in POINT_FRAMES]


@pytest.mark.parametrize(("model", "name"), CASES)
async def test_a_bad_frame_costs_that_frame(start_server, model: str, name: str) -> None:
    sent, parts = (VOXEL_FRAMES if model == "voxels" else POINT_FRAMES)[name]
    client = await start_server(**LIMITS)
    stream = await client.opened(model)
    await stream.send(frame=sent)
    await stream.send(frame=good(model))
    error = await stream.error()
    assert (error.frame_id, error.code) == (sent.frame_id, INVALID.value[0])
    for part in parts:
        assert part in error.message
    assert (await stream.result()).frame_id == "good"
    refused = await client.failed_infer(sent, model=model)
    assert (refused.code(), refused.details()) == (INVALID, error.message)
    assert await client.settle(3) == {"ok": 1, "invalid": 2}


async def test_zero_sites_and_nonfinite_features_where_the_model_allows_them(client) -> None:
    assert arrays(await client.infer(frame("empty", 0)))["label"].shape == (0,)
    sent = with_features(NAN)
    answer = arrays(await client.infer(sent, "lenient", outputs=["site_features"]))
    assert np.isnan(answer["site_features"]).sum() == 1


async def test_a_site_twice_across_chunks(client: Client) -> None:
    stream = await client.opened()
    for chunk in chunks(with_sites((1, 2, 3), (0, 0, 0), (1, 2, 3)), [2, 1]):
        await stream.send(chunk=chunk)
    assert "1, 2, 3" in (await stream.error()).message


RUBBISH = {
    "not protobuf": b"\xff\xff\xff\xff",
    "half a message": pb.StreamRequest(frame=frame("x")).SerializeToString()[:-7],
    "empty": b"",
    "unknown member": b"\xfa\x06\x02hi",
    "id that is no utf-8": b"\x12\x04\x0a\x02\xff\xfe",
}


@pytest.mark.parametrize("name", RUBBISH)
@pytest.mark.parametrize("before_open", [True, False])
async def test_rubbish_is_answered(client: Client, name: str, before_open: bool) -> None:
    stream = client.stream() if before_open else await client.opened()
    await stream.send_raw(RUBBISH[name])
    error = await stream.error()
    assert (error.frame_id, error.code) == ("", INVALID.value[0])
    assert f"message of {len(RUBBISH[name])} bytes" in error.message
    if before_open:
        await stream.open()
    await stream.send(frame=frame("good"))
    assert (await stream.result()).frame_id == "good"
    assert await client.settle(2) == {"ok": 1, "invalid": 1}


@pytest.mark.parametrize("method", ["Infer", "ListModels", "GetModel"])
async def test_rubbish_in_unary_calls(client: Client, method: str) -> None:
    call = client.channel.unary_unary(f"/voxgate.v1.VoxelInference/{method}")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(b"\xff\xff\xff\xff")
    assert caught.value.code() == INVALID
    assert "message of 4 bytes" in caught.value.details()


BAD_OPENS: dict[str, tuple[Callable[[], pb.StreamRequest], grpc.StatusCode, str]] = {
    "unknown model": (
        lambda: pb.StreamRequest(open=pb.StreamOpen(model="nope")),
        grpc.StatusCode.NOT_FOUND,
        "'nope' is unknown, this server has lenient, points, refusing, voxels",
    ),
    "unknown version": (
        lambda: pb.StreamRequest(open=pb.StreamOpen(model="voxels", version="7")),
        grpc.StatusCode.NOT_FOUND,
        "version '7' is unknown, it has 1, 10",
    ),
    "version that is no number": (
        lambda: pb.StreamRequest(open=pb.StreamOpen(model="voxels", version="../1")),
        grpc.StatusCode.NOT_FOUND,
        "version '../1' is unknown",
    ),
    "unknown output": (
        lambda: pb.StreamRequest(open=pb.StreamOpen(model="voxels", outputs=["score", "x"])),
        INVALID,
        "outputs: 'x' is unknown, the model has score, label",
    ),
    "hidden output": (
        lambda: pb.StreamRequest(open=pb.StreamOpen(model="voxels", outputs=["box_frame"])),
        INVALID,
        "'box_frame' is unknown",
    ),
    "unknown policy": (
        lambda: pb.StreamRequest(open=pb.StreamOpen(model="voxels", policy=9)),
        INVALID,
        "policy: 9",
    ),
    "negative deadline": (
        lambda: pb.StreamRequest(
            open=pb.StreamOpen(model="voxels", frame_deadline={"seconds": -1})
        ),
        INVALID,
        "frame_deadline: -1 s",
    ),
    "frame first": (
        lambda: pb.StreamRequest(frame=frame("early")),
        INVALID,
        "the first message must be open, got frame",
    ),
    "cancel first": (
        lambda: pb.StreamRequest(cancel_frame_id="a"),
        INVALID,
        "the first message must be open, got cancel_frame_id",
    ),
}


@pytest.mark.parametrize("name", BAD_OPENS)
async def test_a_bad_open_ends_the_stream(client: Client, name: str) -> None:
    message, code, text = BAD_OPENS[name]
    stream = client.stream()
    await stream.send_raw(message().SerializeToString())
    assert await stream.rest() == []
    assert await stream.code() == code
    assert text in await stream.details()
    assert (await client.infer(frame("neighbour"))).frame_id == "neighbour"


async def test_a_second_open_ends_the_stream(client: Client) -> None:
    stream = await client.opened()
    await stream.send(open=pb.StreamOpen(model="voxels"))
    assert await stream.rest() == []
    assert await stream.code() == INVALID
    assert "second open" in await stream.details()


@pytest.mark.parametrize(
    ("fields", "code", "text"),
    [
        ({"model": "nope"}, grpc.StatusCode.NOT_FOUND, "'nope' is unknown"),
        ({"version": "0"}, grpc.StatusCode.NOT_FOUND, "version '0' is unknown"),
        ({"outputs": ["nope"]}, INVALID, "outputs: 'nope' is unknown"),
    ],
)
async def test_infer_of_what_is_not_there(client: Client, fields, code, text: str) -> None:
    error = await client.failed_infer(frame("a"), **fields)
    assert error.code() == code
    assert text in error.details()
    assert await client.settle(1) == {"invalid": 1}


async def test_get_model_of_what_is_not_there(client: Client) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.stub.GetModel(pb.GetModelRequest(name="x" * 5000))
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND
    assert len(caught.value.details()) < 300


async def send_chunks(stream: Stream, *sent: pb.FrameChunk) -> None:
    for chunk in sent:
        await stream.send(chunk=chunk)


async def test_chunks_out_of_order(client: Client) -> None:
    stream = await client.opened()
    first, second, third = chunks(frame("skip", 9), [3, 3, 3])
    await send_chunks(stream, first, third)
    error = await stream.error()
    assert (error.frame_id, error.code) == ("skip", INVALID.value[0])
    assert error.message == "chunk out of order: expected index 1, got 2"
    await send_chunks(stream, *chunks(frame("unstarted", 9), [3, 3, 3])[1:])
    error = await stream.error()
    assert (error.frame_id, error.message) == (
        "unstarted",
        "chunk out of order: expected index 0, got 1",
    )
    await send_chunks(stream, first, second, third)
    assert (await stream.result()).frame_id == "skip"
    assert await client.settle(3) == {"ok": 1, "invalid": 2}


async def test_interleaved_chunks_lose_the_first_frame_only(client: Client) -> None:
    stream = await client.opened()
    one, two = chunks(frame("one", 6), [3, 3]), chunks(frame("two", 6), [3, 3])
    await send_chunks(stream, one[0], two[0], one[1], two[1])
    error = await stream.error()
    assert error.frame_id == "one"
    assert "interrupted by a chunk of frame 'two': expected chunk index 1" in error.message
    assert (await stream.result()).frame_id == "two"
    assert await stream.finish() == []
    assert await client.settle(2) == {"ok": 1, "invalid": 1}


async def test_limits_hold_for_the_sum_of_the_chunks(start_server) -> None:
    client = await start_server(**LIMITS)
    stream = await client.opened()
    await send_chunks(stream, *chunks(frame("big", 1001), [500, 500, 1]))
    assert "1001 sites, the limit is 1000" in (await stream.error()).message
    # The first part is right by itself: it may be read before the second one comes.
    parts = frame("fat", 500), frame("fat", 0, 0, features=bytes(30_001))
    fat = [pb.FrameChunk(part=part, index=i) for i, part in enumerate(parts)]
    await send_chunks(stream, *fat)
    assert "40001 bytes of payload, the limit is 40000" in (await stream.error()).message
    await stream.send(frame=frame("good"))
    assert (await stream.result()).frame_id == "good"


async def test_chunks_that_never_fill_a_frame_are_bounded(start_server) -> None:
    """Neither endless empty chunks nor bytes that are no payload pile up."""
    client = await start_server(**LIMITS)
    limit = 2 * 40_000 + (1 << 20)
    stream = await client.opened()
    for index in range(limit // 1024 + 1):
        await stream.send(chunk=pb.FrameChunk(part=frame("empty", 0), index=index))
    error = await stream.error()
    assert (error.frame_id, error.code) == ("empty", INVALID.value[0])
    assert f"the limit is {limit}" in error.message
    ballast, last = "x" * 60_000, limit // 61_000
    for index in range(last + 1):
        part = pb.Frame(frame_id="ballast", sensor_id=ballast, voxels=frame("", 0).voxels)
        await stream.send(chunk=pb.FrameChunk(part=part, index=index))
    assert f"up to chunk {last}" in (await stream.error()).message
    await stream.send(frame=frame("good"))
    assert (await stream.result()).frame_id == "good"


async def test_chunks_keep_their_types(client: Client) -> None:
    stream = await client.opened()
    first, _ = chunks(frame("mixed", 6), [3, 3])
    coords, features = random_sites(3, 1)
    changed = voxels(coords.astype(np.int16), features)
    second = pb.FrameChunk(part=pb.Frame(frame_id="mixed", voxels=changed), index=1, last=True)
    await send_chunks(stream, first, second)
    assert (
        "coords_dtype: INT16 in chunk 1, INT32 in the chunks before"
        in (await stream.error()).message
    )


async def test_a_message_above_grpcs_limit_ends_its_stream_only(start_server) -> None:
    client = await start_server(**LIMITS)
    neighbour = await client.opened()
    stream = await client.opened()
    await stream.send(frame=frame("huge", 5, 0, features=bytes(2 * 40_000 + (1 << 20) + 1)))
    assert await stream.rest() == []
    assert await stream.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    await neighbour.send(frame=frame("good"))
    assert (await neighbour.result()).frame_id == "good"


async def test_what_the_model_refuses_is_the_frames_fault(client: Client) -> None:
    stream = await client.opened("refusing")
    await stream.send(frame=frame("three", 3))
    error = await stream.error()
    assert (error.frame_id, error.code) == ("three", INVALID.value[0])
    assert "the model refused the frame" in error.message
    await stream.send(frame=frame("four", 4))
    assert (await stream.result()).frame_id == "four"


async def test_an_answer_that_no_message_can_carry(client: Client, monkeypatch) -> None:
    monkeypatch.setattr("voxgate_server.serving._MAX_ANSWER_BYTES", 1000)
    stream = await client.opened(outputs=["score"])
    for name, count in (("large", 251), ("good", 250)):
        await stream.send(frame=frame(name, count))
    error = await stream.error()
    code = grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
    assert (error.frame_id, error.code) == ("large", code)
    assert error.message == "answer: 1004 bytes, the limit is 1000"
    assert (await stream.result()).frame_id == "good"


async def test_what_breaks_the_engine_fails_one_frame(client: Client, monkeypatch) -> None:
    engine = client.app.repository.ready("voxels").engine
    (instance,) = engine._instances
    run = instance.execute

    def broken(frames, outputs, options):
        if any(sent.num_sites == 3 for sent in frames):
            raise RuntimeError("boom")
        return run(frames, outputs, options)

    monkeypatch.setattr(instance, "execute", broken)
    stream = await client.opened()
    for name, count in (("broken", 3), ("good", 4)):
        await stream.send(frame=frame(name, count))
    error = await stream.error()
    assert (error.frame_id, error.code) == ("broken", grpc.StatusCode.INTERNAL.value[0])
    assert "boom" in error.message
    assert (await stream.result()).frame_id == "good"
    assert await client.settle(2) == {"ok": 1, "failed": 1}


async def test_one_stream_takes_every_kind_of_rubbish(start_server) -> None:
    """All of it on one stream, a good frame after each: nothing piles up."""
    client = await start_server(**LIMITS)
    stream = await client.opened()
    sent = 0
    for index, (bad, _) in enumerate(VOXEL_FRAMES.values()):
        for raw in RUBBISH.values():
            await stream.send_raw(raw)
            await stream.error()
        await stream.send(frame=bad)
        assert (await stream.error()).frame_id == bad.frame_id
        await stream.send(frame=frame(f"good {index}"))
        assert (await stream.result()).frame_id == f"good {index}"
        sent += len(RUBBISH) + 2
    assert await stream.finish() == []
    good_frames = len(VOXEL_FRAMES)
    assert await client.settle(sent) == {"ok": good_frames, "invalid": sent - good_frames}
    assert not client.app.service._sessions


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
async def test_bad_frames_leak_nothing(start_server) -> None:
    """A thousand bad and good frames, each with 36 kB of payload, keep no memory."""
    client = await start_server()
    stream = await client.opened()
    coords, features = random_sites(1800)
    whole = voxels(coords, features)
    twice = voxels(np.concatenate([coords[:-1], coords[:1]]), features)
    cut = voxels(coords, features, features=features.tobytes()[:-4])

    async def round_trips(count: int) -> None:
        for index in range(count):
            for payload in (whole, twice, cut):
                await stream.send(frame=pb.Frame(frame_id=f"{index}", voxels=payload))
                await stream.read()
            unfinished = pb.Frame(frame_id=f"part {index}", voxels=whole)
            await stream.send(chunk=pb.FrameChunk(part=unfinished))
            await stream.send(cancel_frame_id=f"part {index}")
            await stream.error()

    await round_trips(100)
    before = resident_bytes()
    await round_trips(250)
    assert resident_bytes() - before < 16 << 20
    outcomes = await client.settle(1400)
    assert outcomes == {"ok": 350, "invalid": 700, "cancelled": 350}
