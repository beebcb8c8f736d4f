# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""`voxgate stream` and `voxgate simulate` against a server in this process."""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
import typer
from typer.testing import CliRunner, Result

from voxgate_client import PointCloud, commands, voxelize
from voxgate_client.frame_source import prepare
from voxgate_client.messages import parse_model
from voxgate_protos import voxel_inference_pb2 as pb

FakeServer: TypeAlias = Any  # the one of conftest.py


@pytest.fixture(autouse=True)
def plain_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")


def run(command: Any, *words: object) -> Result:
    app = typer.Typer(add_completion=False)
    app.command()(command)
    return CliRunner().invoke(app, [str(word) for word in words])


def scan(folder: Path, name: str, num: int) -> Path:
    path = folder / name
    np.random.default_rng(num).uniform(-7, 7, (num, 4)).astype("<f4").tofile(path)
    return path


@pytest.fixture
def scans(tmp_path: Path) -> list[Path]:
    return [scan(tmp_path, "a.bin", 19), scan(tmp_path, "b.bin", 21)]


def test_stream_prints_answer_and_latencies(fake_server: FakeServer, scans: list[Path]) -> None:
    done = run(commands.stream, *scans, "--target", fake_server.target, "--loop", 3)
    assert done.exit_code == 0, done.output
    for text in ("answer: label", "ground", "tree", "execute", "client", "p99", "6 frames sent"):
        assert text in done.output
    assert [frame.points.num_points for frame in fake_server.frames] == [19, 21] * 3
    assert all(frame.captured_at.seconds > 1_600_000_000 for frame in fake_server.frames)


def test_json(fake_server: FakeServer, scans: list[Path]) -> None:
    done = run(commands.stream, *scans, "--target", fake_server.target, "--json")
    report = json.loads(done.stdout)
    assert report["model"] == "unet" and report["version"] == "3"
    assert report["frames"] == {"sent": 2, "ok": 2, "unanswered": 0, "errors": {}}
    assert report["labels"] == {"label": {"ground": 10 + 11, "tree": 9 + 10}}
    stages = report["latency_ms"]
    assert list(stages) == [
        "receive", "decode", "queue", "execute", "encode", "total", "client",
    ]  # fmt: skip
    assert stages["execute"] == {"p50": 0.004, "p90": 0.004, "p99": 0.004, "max": 0.004}
    assert stages["client"]["p50"] > 0


def test_voxels_model_gets_voxels(fake_server: FakeServer, scans: list[Path]) -> None:
    fake_server.models["unet"].input_kind = "voxels"
    done = run(commands.stream, scans[0], "--target", fake_server.target)
    assert done.exit_code == 0, done.output
    points = np.fromfile(scans[0], "<f4").reshape(-1, 4)
    grid = parse_model(fake_server.models["unet"]).grid
    assert grid is not None
    coords, features, _ = voxelize(points, grid)
    (frame,) = fake_server.frames
    assert frame.voxels.coords == coords.astype("<i2").tobytes()
    assert frame.voxels.features == features.tobytes()


def test_simulated_sweeps_in_chunks(fake_server: FakeServer) -> None:
    fake_server.models["unet"].max_frame_bytes = 0
    words = ["--simulate", 2, "--beams", 32, "--chunk-rows", 9000, "--target", fake_server.target]
    done = run(commands.stream, *words)
    assert done.exit_code == 0, done.output
    assert len(fake_server.chunks) >= 6


def test_rate_paces_the_frames(fake_server: FakeServer, scans: list[Path]) -> None:
    start = time.monotonic()
    words = ["--target", fake_server.target, "--rate", 20, "--loop", 4]
    assert run(commands.stream, *scans, *words).exit_code == 0
    assert time.monotonic() - start >= 7 / 20  # 8 frames, the first at once


def test_failed_frames_are_counted_and_shown(fake_server: FakeServer, scans: list[Path]) -> None:
    fake_server.script = "short answer"
    done = run(commands.stream, *scans, "--target", fake_server.target)
    assert done.exit_code == 1
    assert "0 ok, 2 failed" in done.output and "bytes, got 75" in done.output


def test_ctrl_c_reports_what_was_answered_and_fails_nothing(
    fake_server: FakeServer, scans: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    really_send = commands.FrameStream.send
    names = iter(["a", "b", "hold", "never sent"])

    def send(self: Any, frame: Any, **options: Any) -> None:
        # The third is never answered: at the fourth the user has had enough.
        name = next(names)
        if name == "never sent":
            raise KeyboardInterrupt
        really_send(self, dataclasses.replace(frame, frame_id=name), **options)

    monkeypatch.setattr(commands.FrameStream, "send", send)
    done = run(commands.stream, *scans, "--target", fake_server.target, "--loop", 9)
    assert done.exit_code == 0, done.output
    assert "stopped" in done.output and "3 frames sent" in done.output
    assert ": 2 ok, 0 failed, 1 unanswered" in done.output


def test_an_answer_without_numbers(fake_server: FakeServer, tmp_path: Path) -> None:
    (tmp_path / "empty.bin").touch()
    fake_server.models["unet"].metadata_json = ""
    done = run(commands.stream, tmp_path / "empty.bin", "--target", fake_server.target)
    assert done.exit_code == 0, done.output
    assert "answer: label [0] (last frame)\n" in done.output


def test_options_reach_the_server(fake_server: FakeServer, scans: list[Path]) -> None:
    # One scan: a second could take the place of the first before that is sent.
    words = ["--policy", "latest", "--deadline", 25, "--priority", 2]
    done = run(commands.stream, scans[0], "--target", fake_server.target, *words)
    assert done.exit_code == 0, done.output
    (opening,) = fake_server.opened
    assert (opening.policy, opening.priority) == (pb.LATEST, 2)
    assert opening.frame_deadline.ToMilliseconds() == 25_000


@pytest.mark.parametrize("reconnect", [True, False])
def test_breaking_stream_is_opened_again_unless_told_not_to(
    reconnect: bool, fake_server: FakeServer, scans: list[Path]
) -> None:
    fake_server.script = "abort"
    words = ["--target", fake_server.target, *([] if reconnect else ["--no-reconnect"])]
    done = run(commands.stream, *scans, *words)
    assert done.exit_code == 1
    assert ("reconnecting: in 0." in done.output) is reconnect
    assert len(fake_server.opened) == 1 + reconnect
    assert ("2 frames sent" in done.output) is reconnect


def test_stream_that_breaks_is_reported(fake_server: FakeServer, scans: list[Path]) -> None:
    fake_server.script = "abort"
    done = run(commands.stream, *scans, "--target", fake_server.target)
    assert done.exit_code == 1
    assert "engine on fire" in done.output and "UNAVAILABLE" in done.output


def test_no_server_says_how_to_start_one(scans: list[Path]) -> None:
    done = run(commands.stream, *scans, "--target", "127.0.0.1:1")
    assert done.exit_code == 1
    assert "no server at 127.0.0.1:1" in done.output and "voxgate serve --models" in done.output
    assert "--tls-ca" in done.output


def test_unknown_model_lists_the_known(fake_server: FakeServer, scans: list[Path]) -> None:
    fake_server.models["broken"] = pb.ModelInfo(
        name="broken", version="1", state=pb.ModelInfo.FAILED, state_reason="no such operator"
    )
    done = run(commands.stream, *scans, "--model", "vnet", "--target", fake_server.target)
    assert done.exit_code == 1
    assert "no model 'vnet' is ready" in done.output and "ready: unet" in done.output
    assert "broken 1: FAILED no such operator" in done.output


def test_several_models_ask_for_a_choice(fake_server: FakeServer, scans: list[Path]) -> None:
    other = pb.ModelInfo()
    other.CopyFrom(fake_server.models["unet"])
    other.name = "other"
    fake_server.models["other"] = other
    done = run(commands.stream, *scans, "--target", fake_server.target)
    assert done.exit_code == 1
    assert "choose one with --model: other, unet" in done.output
    chosen = run(commands.stream, *scans, "--target", fake_server.target, "--model", "other")
    assert chosen.exit_code == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "nothing to send: give a FILE"),
        (["absent.bin"], "No such file"),
        (["{folder}/a.bin", "--columns", "3"], "304 bytes is no whole number"),
        (["--simulate", "1", "--beams", "7"], "beams=7, expected 32 or 64"),
        (["{folder}/a.npy"], "takes x, y, z, intensity: no column intensity"),
        (["{folder}/a.npy"], "--fill VALUE"),
        (["{folder}"], "is a folder: name its files, as in"),
    ],
)
def test_input_that_cannot_be_sent(
    words: list[str], message: str, fake_server: FakeServer, tmp_path: Path, scans: list[Path]
) -> None:
    np.save(tmp_path / "a.npy", np.zeros((4, 3), np.float32))
    filled = [word.format(folder=tmp_path) for word in words]
    done = run(commands.stream, *filled, "--target", fake_server.target)
    assert done.exit_code == 1 and message in done.output, done.output


def test_missing_feature_can_be_filled(fake_server: FakeServer, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((4, 3), np.float32))
    words = [tmp_path / "a.npy", "--fill", 0.5, "--target", fake_server.target]
    assert run(commands.stream, *words).exit_code == 0
    sent = np.frombuffer(fake_server.frames[0].points.points, "<f4").reshape(4, 4)
    assert (sent[:, 3] == 0.5).all()


def test_voxels_model_whose_features_are_not_the_place(fake_server: FakeServer) -> None:
    info = fake_server.models["unet"]
    info.input_kind = "voxels"
    del info.feature_names[:]
    info.feature_names.append("intensity")
    points = np.float32([[0.1, 0.1, 0.1, 1.0], [0.2, 0.2, 0.2, 2.0], [3.0, 0.0, 0.0, 5.0]])
    frame = prepare(PointCloud(points, ("x", "y", "z", "intensity")), parse_model(info))
    assert frame.coords is not None and frame.features is not None
    assert frame.coords.tolist() == [[8, 16, 16], [8, 16, 22]]
    assert frame.features.tolist() == [[1.5], [5.0]]
    info.metadata_json = ""
    with pytest.raises(ValueError, match=r"has no point_range and voxel_size.*--voxel-size"):
        prepare(PointCloud(points, ("x", "y", "z", "intensity")), parse_model(info))


def test_simulate_writes_sweeps_labels_and_classes(tmp_path: Path) -> None:
    done = run(commands.simulate, tmp_path / "new", "--frames", 2, "--beams", 32)
    assert done.exit_code == 0, done.output
    names = sorted(path.name for path in (tmp_path / "new").iterdir())
    wanted = ["000000.bin", "000000.label", "000001.bin", "000001.label", "classes.json"]
    assert names == wanted
    classes = json.loads((tmp_path / "new" / "classes.json").read_text())
    assert classes["3"] == "pedestrian"
    labels = np.fromfile(tmp_path / "new" / "000001.label", "<u4")
    assert len(labels) * 16 == (tmp_path / "new" / "000001.bin").stat().st_size
    assert run(commands.simulate, tmp_path / "new" / "classes.json").exit_code == 1


def test_examples_in_helps_have_a_line_each() -> None:
    lines = [line.strip() for line in run(commands.simulate, "--help").output.splitlines()]
    assert {"voxgate simulate sweeps --frames 20", "voxgate stream sweeps/*.bin"} <= set(lines)
