# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""`voxgate bench`: the load it makes, what it measures, and how it tells."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
import typer
from rich.console import Console
from tests.clients.conftest import model_info
from typer.testing import CliRunner, Result

from voxgate_client import AsyncVoxgateClient, Frame, PackedFrame, QueuePolicy, StreamOptions
from voxgate_client import bench_command as command
from voxgate_client.bench import BenchReport
from voxgate_client.bench_run import Load, Run, Sample, run_load
from voxgate_client.messages import Timing, parse_model
from voxgate_protos import voxel_inference_pb2 as pb

FakeServer: TypeAlias = Any  # the one of conftest.py
FRAMES = [PackedFrame.of(Frame(np.zeros((rows, 4), np.float32))) for rows in (5, 9)]


@pytest.fixture(autouse=True)
def plain_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")


async def load_on(server: FakeServer, load: Load, stop_after: int = 0, **options: Any) -> Run:
    stop = asyncio.Event()
    answered = 0

    def count() -> None:
        nonlocal answered
        answered += 1
        if answered == stop_after:
            stop.set()

    async with AsyncVoxgateClient(server.target) as client:
        chosen = StreamOptions(**options)
        return await run_load(client, "unet", chosen, FRAMES, load, stop=stop, progress=count)


async def test_closed_loop_sends_each_frame_once_on_every_stream(fake_server: FakeServer) -> None:
    run = await load_on(fake_server, Load(streams=3, frames=8, warm_up=2))
    assert Counter(s.stream for s in run.samples) == {0: 8, 1: 8, 2: 8}
    assert (run.sent, run.unanswered, run.messages, run.interrupted) == (24, 0, {}, False)
    assert {s.outcome for s in run.samples} == {"ok"} and all(s.due == s.sent for s in run.samples)
    assert Counter(s.rows for s in run.samples) == {5: 12, 9: 12}
    assert len(fake_server.frames) == 3 * 10  # with the warm-up, which is not counted
    firsts = {f.points.num_points for f in fake_server.frames if f.frame_id == "warm -2"}
    assert firsts == {5, 9}  # streams do not begin with the same frame


async def test_closed_loop_keeps_to_its_frames_in_flight(fake_server: FakeServer) -> None:
    waiting: list[pb.Frame] = []
    most = 0
    answer = fake_server.respond

    def respond(request: Any, model: str, context: Any) -> Any:
        nonlocal most
        waiting.append(request)
        most = max(most, len(waiting))
        if len(waiting) == 3 or request.frame.frame_id == "0.6":  # none follows unanswered
            for held in list(waiting):
                yield from answer(held, model, context)
            waiting.clear()

    fake_server.respond = respond
    load = Load(streams=1, frames=7, warm_up=0, in_flight=3)
    # FIFO: under LATEST a frame may take the place of one that has not left the client yet.
    run = await load_on(fake_server, load, policy=QueuePolicy.FIFO)
    assert most == 3 and len(run.samples) == 7


async def test_open_loop_keeps_to_its_schedule(fake_server: FakeServer) -> None:
    run = await load_on(fake_server, Load(streams=2, rate=100, frames=10, warm_up=1))
    due = {stream: [s.due for s in run.samples if s.stream == stream] for stream in (0, 1)}
    wanted = 0.01 + 0.01 * np.arange(10)  # after the warm-up
    np.testing.assert_allclose(sorted(due[0]), wanted, atol=1e-9)
    np.testing.assert_allclose(sorted(due[1]), wanted + 0.005, atol=1e-9)
    assert all(s.due <= s.sent <= s.answered for s in run.samples)


async def test_outcomes_are_the_servers(fake_server: FakeServer) -> None:
    codes = {0: 8, 1: 4, 2: 13, 3: 10}

    def respond(request: Any, model: str, context: Any) -> Any:
        frame_id = request.frame.frame_id
        code = codes[int(frame_id.partition(".")[2])]
        yield pb.StreamResponse(error=pb.FrameError(frame_id=frame_id, code=code, message="no"))

    fake_server.respond = respond
    run = await load_on(fake_server, Load(streams=1, frames=4, warm_up=0))
    assert [s.outcome for s in run.samples] == ["overloaded", "deadline", "failed", "superseded"]
    assert run.messages == {"RESOURCE_EXHAUSTED: no": 1, "DEADLINE_EXCEEDED: no": 1,
                            "INTERNAL: no": 1}  # fmt: skip


async def test_stopping_early_keeps_what_was_measured(fake_server: FakeServer) -> None:
    load = Load(streams=2, rate=50, frames=10_000)
    run = await load_on(fake_server, load, stop_after=5)
    assert run.interrupted and run.unanswered == 0
    assert 5 <= len(run.samples) == run.sent < 1000  # of 20,000, in 200 s


def sample(due: float, sent: float, answered: float, outcome: str = "ok") -> Sample:
    timing = Timing(1000, 2000, 3000, 4000, 5000, 15000, 2, 80) if outcome == "ok" else None
    return Sample(0, due, sent, answered, 40, outcome, timing)


def report(run: Run, rate: float = 10.0, kind: str = "voxels") -> BenchReport:
    model = parse_model(model_info("unet", kind))
    return BenchReport("host:1", model, StreamOptions(), Load(1, rate, len(run.samples)), run)


def test_latency_counts_from_the_schedule() -> None:
    """A sender held up by its server must not make the frames look faster: no omission."""
    run = Run([sample(0.0, 0.0, 0.5), sample(0.1, 0.5, 0.6), sample(0.2, 0.6, 0.7)], sent=3)
    found = report(run)
    assert found.latency_ms()["client"]["max"] == pytest.approx(500)
    assert found.stage_ms()["client"].tolist() == pytest.approx([500, 500, 500])
    assert found.late_ms()["max"] == pytest.approx(400)


def test_report_in_numbers() -> None:
    samples = [sample(n, n, n + 0.25) for n in range(4)]
    samples.append(sample(3.5, 3.5, 4.0, "superseded"))
    found = report(Run(samples, sent=6, unanswered=1, client_cpu_seconds=0.01)).as_dict()
    assert found["seconds"] == 4.0 and found["frames_per_second"] == 1.0
    assert found["sites_per_second"] == 40.0 and found["mean_batch_frames"] == 2
    assert found["outcomes"] == {"ok": 4, "superseded": 1}
    assert found["latency_ms"]["execute"] == {"p50": 4.0, "p90": 4.0, "p99": 4.0, "max": 4.0}
    assert found["latency_ms"]["client"]["p50"] == pytest.approx(250)
    assert found["samples"]["outcome"].count("ok") == 4
    assert json.loads(json.dumps(found)) == found


def test_report_of_nothing() -> None:
    empty = report(Run([], sent=1, unanswered=1))
    assert empty.as_dict()["frames_per_second"] == 0 and empty.latency_ms() == {}
    console = Console(record=True, width=200)
    empty.print(console)
    assert "1 frames sent: 1 unanswered" in console.export_text()


def test_plot(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="plots need the extra `plot`")
    from voxgate_client.plot import save_plot

    run = Run([sample(n / 10, n / 10, n / 10 + 0.02) for n in range(20)], sent=21)
    run.samples.append(sample(2, 2, 2.1, "superseded"))
    for rate in (0.0, 10.0):
        path = tmp_path / f"{rate:g}.png"
        save_plot(report(run, rate), path)
        assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n" and path.stat().st_size > 20_000
    with pytest.raises(ValueError, match="nothing to plot"):
        save_plot(report(Run()), tmp_path / "none.png")


# ---- the command -------------------------------------------------------------------------------


def run_bench(*words: object) -> Result:
    app = typer.Typer(add_completion=False)
    app.command()(command.bench)
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def scans(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / "a.bin", tmp_path / "b.bin"]
    for path, rows in zip(paths, (19, 21), strict=True):
        np.random.default_rng(rows).uniform(-7, 7, (rows, 4)).astype("<f4").tofile(path)
    return paths


def test_command_prints_and_writes(
    fake_server: FakeServer, scans: list[Path], tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib", reason="plots need the extra `plot`")
    out, picture = tmp_path / "out.json", tmp_path / "out.png"
    words = ["--streams", 2, "--frames", 5, "--json", out, "--plot", picture]
    words += ["--policy", "latest", "--priority", 3, "--deadline", 20.5]
    done = run_bench(*scans, "--target", fake_server.target, *words)
    assert done.exit_code == 0, done.output
    for text in ("2 streams, 1 in flight each, LATEST", "p99", "execute", "send to answer",
                 "points/s", "10 frames sent: 10 ok", "ms of CPU per frame"):  # fmt: skip
        assert text in done.output
    found = json.loads(out.read_text())
    assert found["outcomes"] == {"ok": 10} and found["load"]["streams"] == 2
    assert picture.stat().st_size > 20_000
    (opening, _) = fake_server.opened
    assert (opening.policy, opening.priority) == (pb.LATEST, 3)
    assert opening.frame_deadline.ToMilliseconds() == 20_500


def test_command_at_a_rate(fake_server: FakeServer, scans: list[Path]) -> None:
    words = ["--streams", 2, "--frames", 3, "--rate", 50, "--target", fake_server.target]
    done = run_bench(*scans, *words)
    assert done.exit_code == 0, done.output
    for text in ("50 frames/s each", "due to answer", "sent behind schedule"):
        assert text in done.output


def test_drops_by_the_queues_rules_are_no_failure(
    fake_server: FakeServer, scans: list[Path]
) -> None:
    answer = fake_server.respond

    def respond(request: Any, model: str, context: Any) -> Any:
        frame_id = request.frame.frame_id
        if frame_id == "0.0":
            yield pb.StreamResponse(error=pb.FrameError(frame_id=frame_id, code=8, message="full"))
        else:
            yield from answer(request, model, context)

    fake_server.respond = respond
    done = run_bench(*scans, "--streams", 1, "--frames", 2, "--target", fake_server.target)
    assert done.exit_code == 0, done.output
    assert "1 overloaded (50.0 %)" in done.output and "1 x RESOURCE_EXHAUSTED: full" in done.output


def test_command_fails_where_frames_did(fake_server: FakeServer, scans: list[Path]) -> None:
    fake_server.script = "abort"
    words = ["--streams", 1, "--frames", 1, "--warm-up", 0, "--target", fake_server.target]
    done = run_bench(*scans, *words)
    assert done.exit_code == 1
    assert "1 unavailable (100.0 %)" in done.output and "engine on fire" in done.output


def test_plot_without_matplotlib_says_so_before_the_run(
    fake_server: FakeServer, scans: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command.importlib.util, "find_spec", lambda name: None)
    done = run_bench(*scans, "--target", fake_server.target, "--plot", "x.png")
    assert done.exit_code == 1 and 'pip install "voxgate[plot]"' in done.output
    assert not fake_server.opened


@pytest.mark.parametrize("option", ["--json", "--plot"])
def test_a_place_for_results_is_looked_at_before_the_run(
    fake_server: FakeServer, scans: list[Path], tmp_path: Path, option: str
) -> None:
    for place, why in ((tmp_path, "it is a folder"), (tmp_path / "no" / "b.png", "is no folder")):
        done = run_bench(*scans, "--target", fake_server.target, option, place)
        assert done.exit_code == 1 and f"{place} cannot be written: " in done.output
        assert why in done.output
    assert not fake_server.opened


def test_nothing_to_send_and_no_server(scans: list[Path]) -> None:
    assert "nothing to send: give a FILE, or --simulate 4" in run_bench().output
    done = run_bench(*scans, "--target", "127.0.0.1:1")
    assert done.exit_code == 1 and "no server at 127.0.0.1:1" in done.output


def test_ctrl_c_reports_what_was_measured(fake_server: FakeServer, scans: list[Path]) -> None:
    def interrupt() -> None:
        while len(fake_server.frames) < 20:
            time.sleep(0.005)
        os.kill(os.getpid(), signal.SIGINT)

    interrupting = threading.Thread(target=interrupt)
    interrupting.start()
    words = ["--streams", 2, "--rate", 100, "--frames", 100_000]
    done = run_bench(*scans, "--target", fake_server.target, *words)
    interrupting.join()
    assert done.exit_code == 0, done.output
    assert "stopped early" in done.output and "p99" in done.output


@pytest.mark.parametrize("source", ["environment", "file", "none"])
def test_token_of_the_commands(
    source: str,
    fake_server: FakeServer,
    scans: list[Path],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.delenv("VOXGATE_TOKEN", raising=False)
    words: list[object] = ["--streams", 1, "--frames", 1, "--warm-up", 0]
    if source == "environment":
        monkeypatch.setenv("VOXGATE_TOKEN", "secret")
    elif source == "file":
        (tmp_path / "token").write_text("secret\n")
        words += ["--token-file", tmp_path / "token"]
    assert run_bench(*scans, "--target", fake_server.target, *words).exit_code == 0
    wanted = None if source == "none" else "Bearer secret"
    assert fake_server.metadata[0].get("authorization") == wanted
    assert "secret" not in run_bench("--help").output


def test_token_is_not_sent_in_the_clear(
    scans: list[Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("VOXGATE_TOKEN", "secret")
    done = run_bench(*scans, "--target", "robot.example:1")
    assert done.exit_code == 1 and "would be sent without TLS" in done.output
    (tmp_path / "token").touch()
    done = run_bench(*scans, "--token-file", tmp_path / "token")
    assert done.exit_code == 1 and "token is empty, expected a token" in done.output
