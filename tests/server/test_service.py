# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""The service over real sockets: answers, order, ids, chunks, cancel, queues, draining."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from pathlib import Path

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from tests.server.driver import Client, Stream, arrays, chunks, cloud, frame, random_sites, voxels

from voxgate_protos import voxel_inference_pb2 as pb
from voxgate_server import serving, voxel_service


def expected(count: int, seed: int = 0, scale: float = 3.0) -> dict[str, np.ndarray]:
    coords, features = random_sites(count, seed)
    order = np.lexsort(coords.T[::-1])
    return {
        "score": scale * features[:, 0] + coords[:, 1].astype(np.float32),
        "label": (features[:, 1] > 0).astype(np.int32),
        "site_coords": coords[order],
        "site_features": features[order],
        "boxes": features[order],
    }


def assert_answers(response: pb.InferResponse, count: int, seed: int = 0, scale: float = 3) -> None:
    got = arrays(response)
    for name, value in expected(count, seed, scale).items():
        assert got[name].dtype == value.dtype
        np.testing.assert_array_equal(got[name], value, err_msg=name)
    assert got["mean"].shape == (2,)
    assert "box_frame" not in got


@pytest.mark.parametrize("count", [1, 2, 19, 989])
async def test_infer_answers_in_the_clients_row_order(client: Client, count: int) -> None:
    response = await client.infer(frame("a", count))
    assert (response.frame_id, response.model, response.version) == ("a", "voxels", "10")
    assert_answers(response, count)
    timing = response.timing
    assert (timing.batch_frames, timing.batch_sites) == (1, count)
    assert timing.total_us >= timing.decode_us + timing.execute_us
    assert client.outcomes() == {"ok": 1}


async def test_infer_of_a_pinned_version_and_chosen_outputs(client: Client) -> None:
    response = await client.infer(frame("a"), version="1", outputs=["label", "score"])
    assert response.version == "1"
    got = arrays(response)
    assert list(got) == ["label", "score"]
    np.testing.assert_array_equal(got["score"], expected(5, scale=2)["score"])


async def test_sparse_rows_come_with_their_sites(client: Client) -> None:
    response = await client.infer(frame("a"), outputs=["site_features"])
    assert list(arrays(response)) == ["site_coords", "site_features"]


async def test_int16_coords_and_narrow_features(client: Client) -> None:
    coords, features = random_sites(50)
    halves = features.astype(np.float16)
    bits = (features.view(np.uint32) >> 16).astype(np.uint16)
    sent = {
        "half": (voxels(coords.astype(np.int16), halves), halves.astype(np.float32)),
        "bfloat": (
            voxels(coords, features, features_dtype=pb.BFLOAT16, features=bits.tobytes()),
            (bits.astype(np.uint32) << 16).view(np.float32),
        ),
    }
    for name, (payload, values) in sent.items():
        response = await client.infer(pb.Frame(frame_id=name, voxels=payload), outputs=["score"])
        score = np.float32(3) * values[:, 0] + coords[:, 1].astype(np.float32)
        np.testing.assert_array_equal(arrays(response)["score"], score)


async def test_points_keep_their_order_and_may_miss_coordinates(client: Client) -> None:
    points = np.arange(28, dtype=np.float32).reshape(7, 4)
    points[3, 0] = np.nan
    points[5] = np.inf
    response = await client.infer(pb.Frame(frame_id="p", points=cloud(points)), "points")
    np.testing.assert_array_equal(arrays(response)["norm"], points.sum(axis=1))


async def test_stream_answers_in_order_and_ends_with_ok(client: Client) -> None:
    stream = client.stream()
    await stream.send(open=pb.StreamOpen(model="voxels", max_queued_frames=64))
    counts = [3, 500, 1, 40, 0, 7]
    for seed, count in enumerate(counts):
        sent = frame(f"f{seed}", count, seed)
        sent.sensor_id = "front"
        await stream.send(frame=sent)
    responses = await stream.finish()
    assert await stream.code() == grpc.StatusCode.OK
    opened = responses.pop(0).opened
    assert opened.model.name == "voxels" and opened.model.state == pb.ModelInfo.READY
    assert opened.max_queued_frames == 64
    assert [r.result.frame_id for r in responses] == [f"f{i}" for i in range(len(counts))]
    for seed, (response, count) in enumerate(zip(responses, counts, strict=True)):
        assert response.result.sensor_id == "front"
        if count:
            assert_answers(response.result, count, seed)
    assert arrays(responses[4].result)["score"].shape == (0,)
    assert await client.settle(6) == {"ok": 6}


async def test_open_clips_the_queue(client: Client) -> None:
    assert (await client.stream().open()).max_queued_frames == 8
    assert (await client.stream().open(max_queued_frames=10_000)).max_queued_frames == 64
    latest = await client.stream().open(policy=pb.LATEST, max_queued_frames=9)
    assert latest.max_queued_frames == 1


async def test_chunks_give_the_answer_of_the_whole_frame(client: Client) -> None:
    stream = await client.opened()
    for chunk in chunks(frame("c", 60), [20, 0, 39, 1]):
        await stream.send(chunk=chunk)
    result = await stream.result()
    assert_answers(result, 60)
    assert result.timing.receive_us > 0
    assert await stream.finish() == []


async def test_an_overdue_chunk_ends_its_frame_only(start_server) -> None:
    client = await start_server(chunk_timeout=0.1)
    stream = await client.opened()
    first, second = chunks(frame("slow", 10), [5, 5])
    await stream.send(chunk=first)
    error = await stream.error()
    assert (error.frame_id, error.code) == ("slow", grpc.StatusCode.DEADLINE_EXCEEDED.value[0])
    assert "0.1 s" in error.message and "index 1" in error.message
    await stream.send(chunk=second)
    await stream.send(frame=frame("next"))
    assert (await stream.result()).frame_id == "next"


async def test_half_close_ends_a_frame_that_is_still_arriving(client: Client) -> None:
    stream = await client.opened()
    await stream.send(chunk=chunks(frame("cut", 10), [5, 5])[0])
    (response,) = await stream.finish()
    assert (response.error.frame_id, response.error.code) == ("cut", 3)
    assert "end of the stream" in response.error.message
    assert await stream.code() == grpc.StatusCode.OK


class HeldEngine:
    """Holds every run of a model until released, so that what waits stays waiting."""

    def __init__(self, client: Client, monkeypatch: pytest.MonkeyPatch, name: str = "voxels"):
        engine = client.app.repository.ready(name).engine
        self.running = asyncio.Event()
        self.release = asyncio.Event()
        run = engine.run

        async def held(*args):
            self.running.set()
            await self.release.wait()
            return await run(*args)

        monkeypatch.setattr(engine, "run", held)


async def test_cancel(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    held = HeldEngine(client, monkeypatch)
    stream = await client.opened()
    for name in ("executing", "waiting", "last"):
        await stream.send(frame=frame(name))
    await asyncio.wait_for(held.running.wait(), 10)
    for name in ("executing", "waiting", "never sent"):
        await stream.send(cancel_frame_id=name)
    await stream.send(chunk=chunks(frame("arriving", 4), [2, 2])[0])
    await stream.send(cancel_frame_id="arriving")
    for name in ("waiting", "arriving"):
        error = await stream.error()
        assert (error.frame_id, error.code) == (name, grpc.StatusCode.CANCELLED.value[0])
    held.release.set()
    assert [(await stream.result()).frame_id for _ in range(2)] == ["executing", "last"]
    assert await client.settle(4) == {"ok": 2, "cancelled": 2}


async def test_a_repeated_id_is_refused_and_the_first_goes_on(client, monkeypatch) -> None:
    held = HeldEngine(client, monkeypatch)
    stream = await client.opened()
    await stream.send(frame=frame("twin"))
    await stream.send(frame=frame("twin", 3))
    error = await stream.error()
    assert (error.frame_id, error.code) == ("twin", grpc.StatusCode.ALREADY_EXISTS.value[0])
    held.release.set()
    assert_answers(await stream.result(), 5)
    await stream.send(frame=frame("twin"))
    assert (await stream.result()).frame_id == "twin"
    assert await client.settle(3) == {"ok": 2, "invalid": 1}


async def test_a_sweep_is_decoded_on_the_loop_only_while_its_model_is_idle(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_the_loop: list[bool] = []
    loop_thread, decode = threading.current_thread(), serving.decode

    def noting(*args):
        on_the_loop.append(threading.current_thread() is loop_thread)
        return decode(*args)

    monkeypatch.setattr(serving, "decode", noting)
    monkeypatch.setattr(serving, "_INLINE_DECODE_BYTES", 1_000)
    monkeypatch.setattr(serving, "_IDLE_INLINE_DECODE_BYTES", 30_000)
    held = HeldEngine(client, monkeypatch)
    stream = await client.opened()
    await stream.send(frame=frame("large", 2000))
    await asyncio.wait_for(held.running.wait(), 10)
    held.release.set()
    assert_answers(await stream.result(), 2000)
    held.release.clear()
    held.running.clear()
    await stream.send(frame=frame("idle", 1000))
    await asyncio.wait_for(held.running.wait(), 10)
    await stream.send(frame=frame("busy", 1000))
    await stream.send(frame=frame("small"))
    while len(on_the_loop) < 4:
        await asyncio.sleep(0.002)
    held.release.set()
    for count in (1000, 1000, 5):
        assert_answers(await stream.result(), count)
    assert on_the_loop == [False, True, False, True]


async def test_a_full_queue_refuses_at_once(client: Client, monkeypatch) -> None:
    held = HeldEngine(client, monkeypatch)
    stream = await client.opened(max_queued_frames=2)
    await stream.send(frame=frame("running"))
    await asyncio.wait_for(held.running.wait(), 10)
    for name in ("first", "second", "third"):
        await stream.send(frame=frame(name))
    error = await stream.error()
    assert (error.frame_id, error.code) == ("third", grpc.StatusCode.RESOURCE_EXHAUSTED.value[0])
    assert "2 frames" in error.message
    held.release.set()
    assert [(await stream.result()).frame_id for _ in range(3)] == ["running", "first", "second"]
    assert await client.settle(4) == {"ok": 3, "overloaded": 1}


async def test_latest_replaces_the_waiting_frame(client: Client, monkeypatch) -> None:
    held = HeldEngine(client, monkeypatch)
    stream = await client.opened(policy=pb.LATEST)
    await stream.send(frame=frame("running"))
    await asyncio.wait_for(held.running.wait(), 10)
    await stream.send(frame=frame("older"))
    await stream.send(frame=frame("bad", features=b""))
    await stream.send(frame=frame("newer"))
    assert (await stream.error()).frame_id == "bad"
    error = await stream.error()
    assert (error.frame_id, error.code) == ("older", grpc.StatusCode.ABORTED.value[0])
    assert error.message == "superseded by newer"
    held.release.set()
    assert [(await stream.result()).frame_id for _ in range(2)] == ["running", "newer"]
    assert await client.settle(4) == {"ok": 2, "superseded": 1, "invalid": 1}


async def test_a_frame_past_its_deadline_is_never_executed(client: Client, monkeypatch) -> None:
    held = HeldEngine(client, monkeypatch)
    stream = client.stream()
    fields = pb.StreamOpen(model="voxels")
    fields.frame_deadline.FromMilliseconds(500)
    await stream.send(open=fields)
    await stream.read()
    await stream.send(frame=frame("started"))
    await asyncio.wait_for(held.running.wait(), 10)
    await stream.send(frame=frame("late"))
    # An error goes as soon as it is known: before the result, whose run has not ended.
    error = await stream.error()
    assert (error.frame_id, error.code) == ("late", grpc.StatusCode.DEADLINE_EXCEEDED.value[0])
    held.release.set()
    assert (await stream.result()).frame_id == "started"
    assert await client.settle(2) == {"ok": 1, "deadline": 1}


async def test_a_client_that_hangs_up_is_counted(client: Client, monkeypatch) -> None:
    held = HeldEngine(client, monkeypatch)
    stream = await client.opened()
    for name in ("executing", "waiting"):
        await stream.send(frame=frame(name))
    await stream.send(chunk=chunks(frame("arriving", 4), [2, 2])[0])
    await stream.send(cancel_frame_id="unknown")
    await asyncio.wait_for(held.running.wait(), 10)
    while len(client.app.service._sessions) != 1 or not _arriving(client):
        await asyncio.sleep(0.01)
    stream.call.cancel()
    outcomes = await client.settle(3)
    # gRPC may report the end of the stream first: then the arriving frame is a broken one.
    assert outcomes in ({"cancelled": 3}, {"cancelled": 2, "invalid": 1})
    held.release.set()
    response = await client.infer(frame("neighbour"))
    assert_answers(response, 5)


def _arriving(client: Client) -> bool:
    (session,) = client.app.service._sessions
    return session.open is not None and session.open.state.arriving is not None


async def test_an_infer_that_hangs_up_does_not_run(client: Client, monkeypatch) -> None:
    held = HeldEngine(client, monkeypatch)
    calls = [client.stub.Infer(pb.InferRequest(model="voxels", frame=frame(n))) for n in "ab"]
    while client.counted()[0] < 2:
        await asyncio.sleep(0.01)
    await asyncio.wait_for(held.running.wait(), 10)
    calls[1].cancel()
    async with asyncio.timeout(10):
        while client.outcomes() != {"cancelled": 1}:
            await asyncio.sleep(0.01)
    held.release.set()
    await calls[0]
    assert await client.settle(2) == {"ok": 1, "cancelled": 1}


async def test_infer_deadline(client: Client, monkeypatch) -> None:
    held = HeldEngine(client, monkeypatch)
    first = client.stub.Infer(pb.InferRequest(model="voxels", frame=frame("first")))
    await asyncio.wait_for(held.running.wait(), 10)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        request = pb.InferRequest(model="voxels", frame=frame("late"))
        await client.stub.Infer(request, timeout=0.5)
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    held.release.set()
    await first
    assert (await client.settle(2))["ok"] == 1


async def test_draining_answers_what_was_admitted(client: Client, monkeypatch) -> None:
    held = HeldEngine(client, monkeypatch)
    idle = await client.opened()
    stream = await client.opened()
    await stream.send(frame=frame("admitted"))
    await asyncio.wait_for(held.running.wait(), 10)
    await stream.send(chunk=chunks(frame("arriving", 4), [2, 2])[0])
    while not any(s.open.state.arriving for s in client.app.service._sessions):
        await asyncio.sleep(0.01)
    draining = asyncio.create_task(client.app.stop())
    assert (await stream.read()).notice.kind == pb.ServerNotice.DRAINING
    assert (await stream.error()).frame_id == "arriving"
    assert [r.WhichOneof("message") for r in await idle.rest()] == ["notice"]
    assert await idle.code() == grpc.StatusCode.OK
    status, _ = await client.http("/readyz")
    assert status == 503
    await stream.send(frame=frame("new"))
    error = await stream.error()
    assert (error.frame_id, error.code) == ("new", grpc.StatusCode.UNAVAILABLE.value[0])
    refused = await client.failed_infer(frame("x"))
    assert refused.code() == grpc.StatusCode.UNAVAILABLE
    held.release.set()
    assert (await stream.result()).frame_id == "admitted"
    assert await stream.rest() == []
    assert await stream.code() == grpc.StatusCode.OK
    await asyncio.wait_for(draining, 10)
    assert client.outcomes() == {"ok": 1, "unavailable": 3}


async def test_a_drain_that_takes_too_long_says_so(start_server, monkeypatch) -> None:
    client = await start_server(drain_timeout=0.1)
    held = HeldEngine(client, monkeypatch)
    stream = await client.opened()
    for name in ("executing", "waiting"):
        await stream.send(frame=frame(name))
    unary = client.stub.Infer(pb.InferRequest(model="voxels", frame=frame("unary")))
    await asyncio.wait_for(held.running.wait(), 10)
    while client.counted()[0] < 3:
        await asyncio.sleep(0.01)
    draining = asyncio.create_task(client.app.stop())
    errors = [r.error for r in await stream.rest() if r.WhichOneof("message") == "error"]
    assert sorted(e.frame_id for e in errors) == ["executing", "waiting"]
    assert {e.code for e in errors} == {grpc.StatusCode.UNAVAILABLE.value[0]}
    assert await stream.code() == grpc.StatusCode.OK
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await unary
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
    held.release.set()
    await asyncio.wait_for(draining, 10)
    assert client.outcomes() == {"unavailable": 3}


async def test_unordered_results_need_not_wait(client: Client, monkeypatch) -> None:
    """An ordered stream holds a result back until the older frame of the stream is answered."""
    model = client.app.repository.ready("voxels")
    served, _ = client.app.models._served[model]
    respond = served.respond
    gate = asyncio.Event()

    async def slow_first(ticket, execution, *, in_stream):
        if ticket.arrival.frame_id == "first":
            await gate.wait()
        raw = await respond(ticket, execution, in_stream=in_stream)
        if ticket.arrival.frame_id == "second":
            asyncio.get_running_loop().call_later(0.05, gate.set)
        return raw

    monkeypatch.setattr(served, "respond", slow_first)
    orders = {}
    for unordered in (False, True):
        gate.clear()
        stream = await client.opened(unordered=unordered)
        for name in ("first", "second"):
            await stream.send(frame=frame(name))
        orders[unordered] = [r.result.frame_id for r in await stream.finish()]
    assert orders == {False: ["first", "second"], True: ["second", "first"]}


async def test_a_slow_reader_delays_only_itself(start_server) -> None:
    client = await start_server()
    slow = await client.opened(max_queued_frames=1)
    coords, features = random_sites(1500)
    big = voxels(coords, features)

    async def flood() -> None:
        for index in range(400):
            await slow.send(frame=pb.Frame(frame_id=str(index), voxels=big))

    flooding = asyncio.create_task(flood())
    for index in range(20):
        assert_answers(await client.infer(frame(f"n{index}")), 5)
    flooding.cancel()
    slow.call.cancel()
    await asyncio.gather(flooding, return_exceptions=True)


async def test_models_are_listed(client: Client) -> None:
    listed = (await client.stub.ListModels(pb.ListModelsRequest())).models
    names = [(m.name, m.version) for m in listed]
    assert names == [
        ("lenient", "1"),
        ("points", "1"),
        ("refusing", "1"),
        ("voxels", "1"),
        ("voxels", "10"),
    ]
    newest = await client.stub.GetModel(pb.GetModelRequest(name="voxels"))
    assert newest == listed[-1]
    assert newest.state == pb.ModelInfo.READY
    assert newest.input_kind == "voxels"
    assert list(newest.spatial_shape) == [8, 16, 16]
    assert list(newest.feature_names) == ["intensity", "height"]
    assert list(newest.coords_encodings) == [pb.PLAIN]
    outputs = {o.name: o for o in newest.outputs}
    assert list(outputs["mean"].shape) == [2]
    assert list(outputs["site_coords"].shape) == [-1, 3]
    assert outputs["site_features"].coords == "site_coords"
    assert "box_frame" not in outputs
    assert [(i.name, list(i.shape)) for i in newest.inputs] == [
        ("coords", [-1, 3]),
        ("features", [-1, 2]),
    ]


async def test_health_and_reflection(client: Client) -> None:
    health = health_pb2_grpc.HealthStub(client.channel)
    for name in ("", "voxgate.v1.VoxelInference"):
        answer = await health.Check(health_pb2.HealthCheckRequest(service=name))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    reflection = reflection_pb2_grpc.ServerReflectionStub(client.channel)
    call = reflection.ServerReflectionInfo()
    await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
    services = {s.name for s in (await call.read()).list_services_response.service}
    assert "voxgate.v1.VoxelInference" in services
    symbol = "voxgate.v1.VoxelInference"
    await call.write(reflection_pb2.ServerReflectionRequest(file_containing_symbol=symbol))
    answer = await call.read()
    assert answer.file_descriptor_response.file_descriptor_proto
    await call.done_writing()


async def test_what_anyone_may_call_takes_small_requests_only(client: Client) -> None:
    health = health_pb2_grpc.HealthStub(client.channel)
    request = health_pb2.HealthCheckRequest(service="x" * 5000)
    for call in (health.Check(request), health.Watch(request).read()):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await asyncio.wait_for(call, 10)
        assert caught.value.code() == grpc.StatusCode.UNKNOWN
    assert not client.app._health._server_watchers
    answer = await health.Check(health_pb2.HealthCheckRequest(service=""))
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_metrics_port(client: Client) -> None:
    await client.infer(frame("a"))
    status, text = await client.http("/metrics")
    assert status == 200
    labels = '{model="voxels",outcome="ok",version="10"}'
    assert f"voxgate_frames_total{labels} 1.0" in text
    assert 'voxgate_frames_received_total{model="voxels",version="10"} 1.0' in text
    for stage in ("receive", "decode", "queue", "execute", "encode", "total"):
        count = f'voxgate_stage_seconds_count{{model="voxels",stage="{stage}",version="10"}} 1.0'
        assert count in text
    assert 'le="0.0001"' in text and 'le="10.0"' in text
    assert "_created" not in text
    assert await client.http("/livez") == (200, "ok\n")
    assert await client.http("/readyz") == (200, "ready\n")
    assert (await client.http("/nothing"))[0] == 404
    assert (await client.http("/metrics", "POST"))[0] == 405
    assert await client.http("/livez", "HEAD") == (200, "")
    client.app.repository.ready("voxels").engine.lost = "cuda:0 is lost: an illegal access"
    said = "model voxels version 10: cuda:0 is lost: an illegal access\n"
    assert await client.http("/livez") == (503, said)


async def test_the_server_closes_while_a_model_is_being_unloaded(
    client: Client, monkeypatch, caplog
) -> None:
    held = HeldEngine(client, monkeypatch)
    stream = await client.opened()
    await stream.send(frame=frame("executing"))
    await asyncio.wait_for(held.running.wait(), 10)
    unloading = asyncio.create_task(client.app.repository.unload("voxels"))
    while client.app.repository.get("voxels", "10").state != "UNLOADING":
        await asyncio.sleep(0.01)
    await client.app.models.close()
    assert (await stream.error()).code == grpc.StatusCode.UNAVAILABLE.value[0]
    assert await asyncio.wait_for(unloading, 10) == [("voxels", 1), ("voxels", 10)]
    assert [r.message for r in caplog.records if r.levelname == "ERROR"] == []


async def test_a_token_that_loses_a_model_loses_its_streams(start_server, tmp_path: Path) -> None:
    path = tmp_path / "tokens.yaml"
    entry = f"- name: robot\n  sha256: {hashlib.sha256(b'secret').hexdigest()}\n  models: "
    path.write_text(entry + "[voxels, points]\n")
    client = await start_server(tokens=path, credentials_interval=0.02)
    lost, kept = (
        client.channel.stream_stream(
            "/voxgate.v1.VoxelInference/StreamInfer",
            response_deserializer=pb.StreamResponse.FromString,
        )(metadata=(("authorization", "Bearer secret"),))
        for _ in range(2)
    )
    for call, model in ((lost, "points"), (kept, "voxels")):
        await call.write(pb.StreamRequest(open=pb.StreamOpen(model=model)).SerializeToString())
        await call.read()
    path.write_text(entry + "[voxels]\n")
    assert await asyncio.wait_for(lost.code(), 10) == grpc.StatusCode.NOT_FOUND
    assert "it may use voxels" in await lost.details()
    await kept.write(pb.StreamRequest(frame=frame("a")).SerializeToString())
    assert (await kept.read()).result.frame_id == "a"
    await kept.done_writing()


async def test_a_changed_priority_reaches_open_streams(start_server, tmp_path: Path) -> None:
    path = tmp_path / "tokens.yaml"
    entry = f"- name: robot\n  sha256: {hashlib.sha256(b'secret').hexdigest()}\n  max_priority: "
    path.write_text(entry + "3\n")
    client = await start_server(tokens=path, credentials_interval=0.02)
    call = client.channel.stream_stream(
        "/voxgate.v1.VoxelInference/StreamInfer",
        response_deserializer=pb.StreamResponse.FromString,
    )(metadata=(("authorization", "Bearer secret"),))
    wanted = pb.StreamOpen(model="voxels", priority=5)
    await call.write(pb.StreamRequest(open=wanted).SerializeToString())
    await call.read()
    (session,) = client.app.service._sessions
    assert session.open.queue.priority == 3
    for granted, holds in ((1, 1), (9, 5)):
        path.write_text(f"{entry}{granted}\n")
        async with asyncio.timeout(10):
            while session.open.queue.priority != holds:
                await asyncio.sleep(0.01)
    await call.write(pb.StreamRequest(frame=frame("a")).SerializeToString())
    assert (await call.read()).result.frame_id == "a"
    await call.done_writing()


async def test_who_reads_no_answers_does_not_stop_the_others(start_server, monkeypatch) -> None:
    monkeypatch.setattr(voxel_service, "STALL_SECONDS", 0.2)
    limits = dict.fromkeys(("max_in_flight_bytes", "max_client_in_flight_bytes"), 200_000)
    client = await start_server(max_frame_bytes=50_000, **limits)
    window = [("grpc.http2.lookahead_bytes", 65_535), ("grpc.http2.bdp_probe", 0)]
    target = f"{client.addresses.host}:{client.addresses.port}"
    async with grpc.aio.insecure_channel(target, options=window) as channel:
        deaf = Stream(channel)
        await deaf.send(open=pb.StreamOpen(model="voxels", max_queued_frames=8))
        for index in range(8):
            await deaf.send(frame=frame(f"{index}", 2000))
        while not client.app.service._admission.bytes.full:
            await asyncio.sleep(0.01)
        neighbour = await asyncio.wait_for(client.opened(), 15)
        await neighbour.send(frame=frame("neighbour"))
        assert (await neighbour.result()).frame_id == "neighbour"
        await deaf.rest()
        assert await deaf.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "has taken no answer for 0.2 s" in await deaf.details()
