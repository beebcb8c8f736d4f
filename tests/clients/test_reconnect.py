# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Both faces of a stream while servers break, drain, restart and are killed."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import grpc
import numpy as np
import pytest
from tests.server.certificates import Authority

from voxgate_client import (
    AsyncVoxgateClient,
    Backoff,
    Frame,
    FrameFailure,
    FrameResult,
    Notice,
    PackedFrame,
    QueuePolicy,
    StreamOptions,
    VoxgateClient,
    VoxgateRpcError,
)
from voxgate_client.channel import Endpoint
from voxgate_protos import voxel_inference_pb2 as pb

FakeServer: TypeAlias = Any  # the one of conftest.py
POINTS = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
QUICK = Backoff(initial=0.01, maximum=0.1)
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def client(fake_server: FakeServer) -> Iterator[VoxgateClient]:
    with VoxgateClient(fake_server.target, timeout=10) as made:
        yield made


def frame(frame_id: str) -> Frame:
    return Frame(POINTS, frame_id=frame_id)


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def outcome(answer: Any) -> tuple[str, str]:
    return answer.frame_id, "OK" if isinstance(answer, FrameResult) else answer.code.name


def test_stream_goes_on_after_a_restart(client: VoxgateClient, fake_server: FakeServer) -> None:
    told: list[Notice] = []
    with client.open_stream("unet", reconnect=QUICK, on_event=told.append) as stream:
        stream.send(frame("hold"))
        wait_until(lambda: fake_server.frames)
        fake_server.restart()
        answer = stream.receive(timeout=10)
        assert outcome(answer) == ("hold", "UNAVAILABLE")
        stream.send(frame("next"))
        assert outcome(stream.receive(timeout=10)) == ("next", "OK")
    kinds = [notice.kind for notice in stream.notices]
    assert kinds[0] == "RECONNECTING" and kinds[-1] == "RECONNECTED"
    assert told == list(stream.notices)


def test_notices_are_told_in_their_order_one_at_a_time(
    client: VoxgateClient, fake_server: FakeServer
) -> None:
    connected = threading.Event()
    told: list[str] = []

    def tell(notice: Notice) -> None:
        if notice.kind == "RECONNECTING":
            assert connected.wait(20)
        told.append(notice.kind)

    with client.open_stream("unet", reconnect=QUICK, on_event=tell) as stream:
        stream.send(frame("hold"))
        wait_until(lambda: fake_server.frames)
        fake_server.restart()
        assert outcome(stream.receive(timeout=20)) == ("hold", "UNAVAILABLE")
        stream.send(frame("next"))
        assert outcome(stream.receive(timeout=20)) == ("next", "OK")
        connected.set()
    assert set(told[:-1]) == {"RECONNECTING"} and told[-1] == "RECONNECTED"
    assert told == [notice.kind for notice in stream.notices]


def test_frames_sent_while_the_server_is_away_wait_for_it(
    client: VoxgateClient, fake_server: FakeServer
) -> None:
    with client.open_stream("unet", reconnect=QUICK, send_queue=3) as stream:
        fake_server.stop()
        wait_until(lambda: stream.notices)
        sent = [stream.send(Frame(POINTS)) for _ in range(3)]
        with pytest.raises(TimeoutError, match="3 frames unanswered after 0 s"):
            stream.send(Frame(POINTS), timeout=0)
        stream.send(frame("stale"), deadline=0.05)  # waits for room until its deadline
        stream.cancel(sent[1])
        told = {outcome(stream.receive(timeout=10)) for _ in range(2)}
        assert told == {("stale", "DEADLINE_EXCEEDED"), (sent[1], "CANCELLED")}
        fake_server.start(fake_server.port)
        stream.close_sending()
        assert [outcome(a) for a in stream] == [(sent[0], "OK"), (sent[2], "OK")]


def test_latest_keeps_the_newest_while_the_server_is_away(
    client: VoxgateClient, fake_server: FakeServer
) -> None:
    options = StreamOptions(policy=QueuePolicy.LATEST)
    with client.open_stream("unet", options, reconnect=QUICK) as stream:
        fake_server.stop()
        wait_until(lambda: stream.notices)
        for frame_id in "abc":
            stream.send(frame(frame_id), timeout=0)
        fake_server.start(fake_server.port)
        stream.close_sending()
        answers = list(stream)
    assert [outcome(a) for a in answers] == [("a", "ABORTED"), ("b", "ABORTED"), ("c", "OK")]
    assert isinstance(answers[0], FrameFailure) and answers[0].message == "superseded by b"


def test_resend(client: VoxgateClient, fake_server: FakeServer) -> None:
    fake_server.script = "abort once"  # a frame is given up that breaks three streams
    with client.open_stream("unet", reconnect=QUICK, resend=True) as stream:
        stream.send(frame("a"))
        stream.send_parts([Frame(POINTS), Frame(POINTS)], "b")
        wait_until(lambda: stream.notices)
        stream.close_sending()
        assert [outcome(a) for a in stream] == [("a", "OK"), ("b", "OK")]


def test_draining_stream_is_read_out_beside_the_new_one(
    client: VoxgateClient, fake_server: FakeServer
) -> None:
    fake_server.script = "drain"
    with client.open_stream("unet", reconnect=QUICK) as stream:
        stream.send(frame("old"))
        wait_until(lambda: [n.kind for n in stream.notices].count("RECONNECTED"))
        stream.send(frame("new"))
        assert outcome(stream.receive(timeout=10)) == ("new", "OK")
        fake_server.drained.set()
        assert outcome(stream.receive(timeout=10)) == ("old", "OK")
        stream.close_sending()
        assert list(stream) == []
    assert [n.kind for n in stream.notices] == ["DRAINING", "RECONNECTING", "RECONNECTED"]


def test_stream_ends_where_the_server_means_it(
    client: VoxgateClient, fake_server: FakeServer
) -> None:
    with client.open_stream("unet", reconnect=QUICK) as stream:
        fake_server.models.clear()
        fake_server.restart()
        assert list(stream) == []
        with pytest.raises(VoxgateRpcError, match="stream is over: NOT_FOUND: no model 'unet'"):
            stream.send(frame("a"))


def test_closing_while_the_server_is_away(client: VoxgateClient, fake_server: FakeServer) -> None:
    stream = client.open_stream("unet")
    fake_server.stop()
    wait_until(lambda: stream.notices)
    stream.send(frame("a"))
    client.close()
    assert [outcome(a) for a in stream] == [("a", "CANCELLED")]
    assert not stream._keeper.is_alive()


def test_callback_that_fails_or_closes_costs_nothing(
    client: VoxgateClient, fake_server: FakeServer
) -> None:
    def fail(notice: Notice) -> None:
        raise RuntimeError(notice.kind)

    with client.open_stream("unet", reconnect=QUICK, on_event=fail) as stream:
        fake_server.restart()
        wait_until(lambda: stream.notices)  # until then it sends on the broken connection
        stream.send(frame("a"))
        assert outcome(stream.receive(timeout=10)) == ("a", "OK")
    closing = client.open_stream("unet", on_event=lambda _: closing.close())
    fake_server.restart()
    assert list(closing) == []


def test_callback_closes_when_a_server_stays_silent(
    client: VoxgateClient, fake_server: FakeServer
) -> None:
    """It is called by the thread that would otherwise cancel the call that is given up."""
    closed = threading.Event()

    def close(notice: Notice) -> None:
        if "not accepted" in notice.message:
            stream.close()
            closed.set()

    stream = client.open_stream("unet", timeout=2, reconnect=QUICK, on_event=close)
    fake_server.proceed.clear()
    fake_server.restart()
    assert closed.wait(20)
    fake_server.proceed.set()
    assert list(stream) == []


def test_packed_frame_is_the_same_message(client: VoxgateClient, fake_server: FakeServer) -> None:
    packed = PackedFrame.of(Frame(POINTS, sensor_id="roof"))
    assert packed.rows == 20
    with client.open_stream("unet", parse_outputs=False) as stream:
        first = stream.send(packed)
        stream.send(packed, frame_id="x" * 128)
        stream.close_sending()
        answers = list(stream)
    assert [outcome(a) for a in answers] == [(first, "OK"), ("x" * 128, "OK")]
    assert isinstance(answers[0], FrameResult) and answers[0].outputs == {}
    assert answers[0].sensor_id == "roof" and answers[0].timing.execute_us == 4
    whole = pb.Frame(frame_id=first, sensor_id="roof")
    whole.points.CopyFrom(fake_server.frames[0].points)
    assert fake_server.frames[0] == whole and whole.points.points == POINTS.tobytes()


# ---- SIGKILL -----------------------------------------------------------------------------------


@pytest.fixture
def launch() -> Iterator[Callable[[int], tuple[subprocess.Popen[str], int]]]:
    processes: list[subprocess.Popen[str]] = []

    def start(port: int) -> tuple[subprocess.Popen[str], int]:
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.clients.killable_server", str(port)],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        assert process.stdout is not None
        return process, int(process.stdout.readline())

    yield start
    for process in processes:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("resend", [False, True])
def test_each_id_is_answered_once_across_sigkill_and_restart(resend: bool, launch: Any) -> None:
    process, port = launch(0)
    answers: list[Any] = []
    num_frames = 300
    with (
        VoxgateClient(f"127.0.0.1:{port}") as client,
        client.open_stream("unet", reconnect=QUICK, resend=resend) as stream,
    ):
        collector = threading.Thread(target=lambda: answers.extend(stream))
        collector.start()
        for number in range(num_frames):
            stream.send(frame(f"f{number}"))
            if number in (100, 200):
                process.kill()
                process.wait()
                process, _ = launch(port)
        stream.close_sending()
        collector.join(30)
    assert Counter(a.frame_id for a in answers) == {f"f{n}": 1 for n in range(num_frames)}
    codes = Counter(outcome(a)[1] for a in answers)
    assert codes.keys() <= ({"OK"} if resend else {"OK", "UNAVAILABLE"}) and codes["OK"] >= 99
    assert [n.kind for n in stream.notices].count("RECONNECTED") == 2


# ---- TLS and tokens ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("tls")
    authority = Authority("test")
    robot, server = authority.issue("robot"), authority.issue("server")
    (folder / "ca.pem").write_bytes(authority.pem)
    robot.write(folder / "robot.pem", folder / "robot.key")
    credentials = grpc.ssl_server_credentials(
        [(server.key, server.certificate)], authority.pem, require_client_auth=True
    )
    files = {
        "tls_ca": folder / "ca.pem",
        "tls_certificate": folder / "robot.pem",
        "tls_key": folder / "robot.key",
    }
    return {"credentials": credentials, "files": files}


def test_mutual_tls_and_token(fake_server: FakeServer, tls: dict[str, Any]) -> None:
    fake_server.stop()
    fake_server.start(fake_server.port, tls["credentials"])
    with (
        VoxgateClient(fake_server.target, token="secret", **tls["files"]) as client,
        client.open_stream("unet", reconnect=QUICK) as stream,
    ):
        assert client.list_models() and client.infer("unet", points=POINTS)
        fake_server.stop()
        fake_server.start(fake_server.port, tls["credentials"])
        wait_until(lambda: stream.notices)  # until then it sends on the broken connection
        stream.send(frame("a"))
        assert outcome(stream.receive(timeout=10)) == ("a", "OK")
    assert [m.get("authorization") for m in fake_server.metadata] == ["Bearer secret"] * 2
    without = {"tls_ca": tls["files"]["tls_ca"]}
    for options in (without, {}):
        with (
            VoxgateClient(fake_server.target, timeout=5, **options) as client,
            pytest.raises(VoxgateRpcError, match="UNAVAILABLE"),
        ):
            client.list_models()


async def test_async_mutual_tls_and_token(fake_server: FakeServer, tls: dict[str, Any]) -> None:
    fake_server.stop()
    fake_server.start(fake_server.port, tls["credentials"])
    async with (
        AsyncVoxgateClient(fake_server.target, token="secret", **tls["files"]) as client,
        await client.open_stream("unet") as stream,
    ):
        assert await client.list_models() and await client.infer("unet", points=POINTS)
        await stream.send(frame("a"))
        assert outcome(await stream.receive()) == ("a", "OK")
    assert fake_server.metadata[0]["authorization"] == "Bearer secret"


@pytest.mark.parametrize(
    "target", ["localhost:1", "127.0.0.1:1", "[::1]:1", "unix:/x", "dns:///localhost:1"]
)
def test_token_stays_on_this_machine_without_tls(target: str) -> None:
    assert Endpoint(target, token="t").metadata == (("authorization", "Bearer t"),)


@pytest.mark.parametrize("target", ["robot.example:1", "10.0.0.7:1", "localhost.example:1"])
def test_token_goes_nowhere_in_the_clear(target: str) -> None:
    with pytest.raises(ValueError, match="would be sent without TLS"):
        VoxgateClient(target, token="t")
    assert Endpoint(target, token="t", tls=True).secure
    assert not Endpoint(target, token="t", insecure_token=True).secure
    assert "secret" not in repr(Endpoint("localhost:1", token="secret"))


def test_tls_options_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="belong together"):
        VoxgateClient(tls_certificate="a.pem")
    with pytest.raises(ValueError, match="both given"):
        VoxgateClient(tls_ca="a.pem", credentials=grpc.ssl_channel_credentials())
    with pytest.raises(ValueError, match="not ASCII"):
        VoxgateClient(token="ö")
    with pytest.raises(FileNotFoundError):
        VoxgateClient(tls_ca="absent.pem")


# ---- asyncio -----------------------------------------------------------------------------------


async def test_async_restart_and_drain(fake_server: FakeServer) -> None:
    fake_server.script = "drain"
    told: list[str] = []
    async with (
        AsyncVoxgateClient(fake_server.target, timeout=10) as client,
        await client.open_stream(
            "unet", reconnect=QUICK, on_event=lambda n: told.append(n.kind)
        ) as stream,
    ):
        await stream.send(frame("old"))
        while told.count("RECONNECTED") < 1:
            await asyncio.sleep(0.002)
        await stream.send(frame("new"))
        assert outcome(await stream.receive()) == ("new", "OK")
        fake_server.drained.set()
        assert outcome(await stream.receive()) == ("old", "OK")
        await stream.send(frame("hold"))
        while fake_server.frames[-1].frame_id != "hold":
            await asyncio.sleep(0.002)
        await asyncio.to_thread(fake_server.restart)
        assert outcome(await stream.receive()) == ("hold", "UNAVAILABLE")
        await stream.send(frame("again"))
        assert outcome(await stream.receive()) == ("again", "OK")
        await stream.close_sending()
        assert [a async for a in stream] == []
    assert told[:3] == ["DRAINING", "RECONNECTING", "RECONNECTED"] and told[-1] == "RECONNECTED"


async def test_async_queue_deadline_and_latest(fake_server: FakeServer) -> None:
    async with AsyncVoxgateClient(fake_server.target, timeout=10) as client:
        stream = await client.open_stream("unet", reconnect=QUICK, send_queue=1)
        latest = await client.open_stream(
            "unet", StreamOptions(policy=QueuePolicy.LATEST), reconnect=QUICK
        )
        await asyncio.to_thread(fake_server.stop)
        while not (stream.notices and latest.notices):
            await asyncio.sleep(0.002)
        await stream.send(frame("a"))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await stream.send(frame("b"))
        await stream.send(frame("stale"), deadline=0.02)
        assert outcome(await stream.receive()) == ("stale", "DEADLINE_EXCEEDED")
        await latest.send(frame("c"))
        await latest.send(PackedFrame.of(frame("")), frame_id="d")
        assert outcome(await latest.receive()) == ("c", "ABORTED")
        await asyncio.to_thread(fake_server.start, fake_server.port)
        assert outcome(await stream.receive()) == ("a", "OK")
        assert outcome(await latest.receive()) == ("d", "OK")
        await stream.send(frame("hold"))
    assert [outcome(a) async for a in stream] == [("hold", "CANCELLED")]
    assert [a async for a in latest] == []
    assert not [task for task in asyncio.all_tasks() if "voxgate" in task.get_name()]
