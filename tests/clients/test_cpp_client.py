# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""The C++ client: built as its README says, and held to the Python client's frames and answers."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import grpc
import numpy as np
import pytest
from tests.clients.conftest import model_info
from tests.server.certificates import Authority
from tests.server.models import points_model
from tests.server.test_commands import serving

from voxgate_client import VoxgateClient, read_points
from voxgate_client.frame_messages import frame_message
from voxgate_client.frame_source import prepare
from voxgate_client.messages import FrameResult, parse_model
from voxgate_client.simulator import SweepSimulator, write_sweep
from voxgate_protos import voxel_inference_pb2 as pb

# The first build compiles everything, on whatever machine this is.
pytestmark = pytest.mark.timeout(900)

FakeServer: TypeAlias = Any  # the one of conftest.py
SECONDS = 60
CONSUMER = """
cmake_minimum_required(VERSION 3.24)
project(consumer LANGUAGES C CXX)
find_package(voxgate_client CONFIG REQUIRED)
add_executable(consumer main.cc)
target_link_libraries(consumer PRIVATE voxgate::voxgate_client)
"""
CONSUMER_MAIN = """
#include <iostream>

#include "voxgate_client/client.h"

int main(int, char** argv) {
  voxgate::ClientOptions options;
  options.target = argv[1];
  const voxgate::Client client(options);
  const auto stream = client.OpenStream("unet");
  stream->Send(voxgate::MakeFrame(voxgate::ReadBin(argv[2]), stream->model()));
  stream->CloseSending();
  while (const auto answer = stream->Receive()) {
    const auto& result = std::get<voxgate::FrameResult>(*answer);
    std::cout << result.Output("label")->Integers().size() << std::endl;
  }
}
"""


# ---- building ----------------------------------------------------------------------------------


def cmake_tool(name: str) -> str:
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        pytest.skip(f"the C++ client is built with {name}, which is not here")
    return found


def build_step(*command: str | Path) -> str:
    """Runs a step; skips where a compiler or a package is missing, and fails on any other error."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    output = done.stdout + done.stderr
    for missing in ("was not found. On Debian", "No CMAKE_CXX_COMPILER could be found"):
        if missing in " ".join(output.split()):
            pytest.skip(f"the C++ client cannot be built here: {output[-1000:]}")
    assert done.returncode == 0, output
    return output


@pytest.fixture(scope="session")
def build(repository: Path) -> Path:
    """The build folder, kept from run to run and shared with `make cpp-client`."""
    folder = repository / "build" / "cpp"
    folder.parent.mkdir(exist_ok=True)
    with (repository / "build" / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        cmake = cmake_tool("cmake")
        build_step(
            *(cmake, "-S", repository / "clients/cpp", "-B", folder),
            "-DVOXGATE_CLIENT_BUILD_TESTS=ON",
        )
        output = build_step(cmake, "--build", folder, "--parallel", str(os.cpu_count() or 1))
    assert "warning:" not in output
    return folder


@pytest.fixture(scope="session")
def program(build: Path) -> str:
    return str(build / "voxgate_stream")


def stream(program: str, *words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [program, *map(str, words)],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        env=os.environ | environment,
        check=False,
    )


def test_native_tests_pass(build: Path) -> None:
    build_step(cmake_tool("ctest"), "--test-dir", build, "--output-on-failure")


def test_the_installed_package_links(
    build: Path, fake_server: FakeServer, sweep: Path, tmp_path: Path
) -> None:
    (tmp_path / "CMakeLists.txt").write_text(CONSUMER)
    (tmp_path / "main.cc").write_text(CONSUMER_MAIN)
    cmake, prefix, folder = cmake_tool("cmake"), tmp_path / "prefix", tmp_path / "build"
    build_step(cmake, "--install", build, "--prefix", prefix)
    build_step(cmake, "-S", tmp_path, "-B", folder, f"-DCMAKE_PREFIX_PATH={prefix}")
    build_step(cmake, "--build", folder)
    done = stream(str(folder / "consumer"), fake_server.target, sweep)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == len(read_points(sweep).points)
    installed = stream(str(prefix / "bin" / "voxgate_stream"), "--help")
    assert installed.returncode == 0


# ---- against a server in this process ----------------------------------------------------------


@pytest.fixture(scope="session")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated scan, as `voxgate simulate` writes it."""
    folder = tmp_path_factory.mktemp("sweeps")
    write_sweep(SweepSimulator(seed=3, beams=32).sweep(0), folder, "sweep")
    return folder / "sweep.bin"


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    path = tmp_path / "scan.bin"
    np.random.default_rng(0).uniform(-7, 7, (19, 4)).astype("<f4").tofile(path)
    return path


def check_same_frame(program: str, server: FakeServer, path: Path, info: pb.ModelInfo) -> None:
    """The program sends the bytes that the Python client would."""
    info.max_frame_bytes = 0
    server.models["unet"] = info
    done = stream(program, path, "--target", server.target, "--quiet")
    assert done.returncode == 0, done.stderr
    (sent,) = server.frames
    frame = prepare(read_points(path), parse_model(info))
    expected = frame_message(dataclasses.replace(frame, frame_id=sent.frame_id))
    assert sent.WhichOneof("payload") == expected.WhichOneof("payload")
    assert sent.points == expected.points and sent.voxels == expected.voxels
    assert sent.points.num_points or sent.voxels.num_sites


def described(kind: str, size: list[float], features: list[str]) -> pb.ModelInfo:
    info = model_info("unet", kind)
    del info.feature_names[:]
    info.feature_names.extend(features)
    grid = {"point_range": [-51.2, -51.2, -5.0, 51.2, 51.2, 3.0], "voxel_size": size}
    info.metadata_json = json.dumps(grid)
    return info


XYZI = ["x", "y", "z", "intensity"]


@pytest.mark.parametrize("kind", ["points", "voxels"])
@pytest.mark.parametrize("features", [XYZI, ["intensity"], ["z", "y", "x"]])
def test_a_sweep_becomes_the_python_clients_frame(
    program: str, fake_server: FakeServer, sweep: Path, kind: str, features: list[str]
) -> None:
    if kind == "points" and len(features) < 3:
        features = XYZI[::-1]
    check_same_frame(program, fake_server, sweep, described(kind, [0.8, 0.8, 0.4], features))


@pytest.mark.parametrize(
    "name", ["kitti_000000_full.bin", "kitti_000008_fov.bin", "nuscenes_lidar_top_sweep.pcd.bin"]
)
def test_a_real_scan_becomes_the_python_clients_frame(
    program: str, fake_server: FakeServer, data_file: Callable[[str], Path], name: str
) -> None:
    # 0.35 has no exact float32, and the grid's length no whole number of it.
    info = described("voxels", [0.35, 0.4, 0.7], XYZI)
    check_same_frame(program, fake_server, data_file(name), info)


def test_every_frame_and_stage_is_printed(
    program: str, fake_server: FakeServer, scan: Path
) -> None:
    done = stream(program, scan, scan, "--loop", 2, "--target", fake_server.target)
    assert done.returncode == 0, done.stderr
    for text in ("scan.bin", "receive", "execute", "client", "p50", "p99", "4 frames sent", "4 ok"):
        assert text in done.stdout
    assert [frame.frame_id for frame in fake_server.frames] == ["0", "1", "2", "3"]
    assert all(frame.captured_at.seconds > 1_600_000_000 for frame in fake_server.frames)


def test_json(program: str, fake_server: FakeServer, scan: Path) -> None:
    done = stream(program, scan, "--target", fake_server.target, "--json")
    report = json.loads(done.stdout)
    assert report["model"] == "unet" and report["version"] == "3" and report["points"] == 19
    assert report["frames"] == {"sent": 1, "ok": 1, "superseded": 0, "errors": {}}
    assert report["latency_ms"]["execute"]["p99"] == pytest.approx(0.004)
    assert report["latency_ms"]["client"]["max"] > 0


def test_options_reach_the_server(program: str, fake_server: FakeServer, scan: Path) -> None:
    options = ["--deadline=20.5", "--priority=2", "--output=label", "--max-queued=3", "--unordered"]
    done = stream(
        program, scan, "--target", fake_server.target, "--sensor-id", "roof", "--policy", "latest",
        *options, VOXGATE_TOKEN="secret",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (opened,) = fake_server.opened
    assert opened.policy == pb.LATEST and opened.priority == 2 and opened.unordered
    assert opened.frame_deadline.ToMilliseconds() == 20_500 and opened.max_queued_frames == 3
    assert list(opened.outputs) == ["label"]
    assert fake_server.frames[0].sensor_id == "roof"
    assert fake_server.metadata[0]["authorization"] == "Bearer secret"


def test_a_broken_stream_is_an_error(program: str, fake_server: FakeServer, scan: Path) -> None:
    fake_server.script = "abort"
    done = stream(program, scan, "--target", fake_server.target)
    assert done.returncode == 1
    assert "UNAVAILABLE" in done.stdout and "engine on fire" in done.stdout
    assert "0 ok, 1 failed" in done.stdout


def test_an_answer_that_contradicts_itself_is_an_error(
    program: str, fake_server: FakeServer, scan: Path
) -> None:
    fake_server.script = "short answer"
    done = stream(program, scan, "--target", fake_server.target)
    assert done.returncode == 1
    assert "label: shape [19] of int32 is 76 bytes, got 75" in done.stdout


def test_a_truncated_file_is_left_out(
    program: str, fake_server: FakeServer, scan: Path, tmp_path: Path
) -> None:
    truncated = tmp_path / "truncated.bin"
    truncated.write_bytes(scan.read_bytes()[:-3])
    done = stream(program, truncated, scan, "--loop", 2, "--target", fake_server.target)
    assert done.returncode == 4
    assert done.stderr.count("truncated.bin: 301 bytes is no whole number of points") == 1
    assert "2 frames sent" in done.stdout and "2 ok, 0 failed" in done.stdout


def test_a_file_that_does_not_fit_is_left_out(
    program: str, fake_server: FakeServer, scan: Path, tmp_path: Path
) -> None:
    large = tmp_path / "large.bin"
    np.zeros((1 << 16) + 1, "<f4,<f4,<f4,<f4").tofile(large)
    done = stream(program, large, scan, "--target", fake_server.target)
    assert done.returncode == 4
    assert "1048592 bytes, the server takes at most 1048576" in done.stderr
    assert "1 frames sent" in done.stdout
    fake_server.models["unet"].feature_names.append("ring")
    done = stream(program, scan, "--target", fake_server.target)
    assert done.returncode == 4
    assert "no column ring, the points have x, y, z, intensity" in done.stderr
    done = stream(program, scan, "--target", fake_server.target, "--fill", 0.5)
    assert done.returncode == 0 and fake_server.frames[-1].points.num_fields == 5


def test_an_unknown_model_is_named(program: str, fake_server: FakeServer, scan: Path) -> None:
    done = stream(program, scan, "--target", fake_server.target, "--model", "other")
    assert done.returncode == 3
    assert "NOT_FOUND: no model 'other'" in done.stderr and ": unet" in done.stderr
    fake_server.models["second"] = model_info("second")
    done = stream(program, scan, "--target", fake_server.target)
    assert done.returncode == 3
    assert "--model" in done.stderr and "unet, second" in done.stderr


def test_no_server(program: str, scan: Path) -> None:
    done = stream(program, scan, "--target", "127.0.0.1:1")
    assert done.returncode == 3
    assert "UNAVAILABLE" in done.stderr and "voxgate serve" in done.stderr


def test_wrong_usage(program: str, scan: Path) -> None:
    for words, message in (
        ([], "give a FILE"),
        ([scan, "--rate", "fast"], '--rate is "fast", expected a number from 0.01'),
        ([scan, "--what"], "there is no option --what"),
    ):
        done = stream(program, *words)
        assert done.returncode == 2 and message in done.stderr
        assert "--help" in done.stderr


def test_help_names_every_option(program: str, repository: Path) -> None:
    done = stream(program, "--help")
    assert done.returncode == 0 and "Exit status" in done.stdout
    source = (repository / "clients/cpp/stream/arguments.cc").read_text()
    known = set(re.findall(r'\{"(--[a-z-]+)"|options\["(--[a-z-]+)"\]', source))
    options = {first or second for first, second in known}
    assert len(options) > 20
    assert options <= set(re.findall(r"--[a-z-]+", done.stdout))


def test_the_newest_frame_replaces_what_waits(
    program: str, fake_server: FakeServer, scan: Path
) -> None:
    fake_server.proceed.clear()  # accepts the stream ...
    words = [scan, "--target", fake_server.target, "--policy", "latest", "--window", "1"]
    process = subprocess.Popen(
        [program, *map(str, words), "--rate", "2000", "--loop", "300", "--json"],
        stdout=subprocess.PIPE,
        text=True,
    )
    fake_server.proceed.set()  # ... now
    report = json.loads(process.communicate(timeout=SECONDS)[0])
    assert process.returncode == 0
    frames = report["frames"]
    assert frames["ok"] == len(fake_server.frames) and frames["superseded"] > 0
    assert frames["ok"] + frames["superseded"] == 300 == frames["sent"]


def test_ctrl_c_prints_what_was_answered(program: str, fake_server: FakeServer, scan: Path) -> None:
    words = [program, str(scan), "--target", fake_server.target, "--rate", "50", "--loop", "100000"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    read_lines(process.stdout, "scan.bin", 3)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == 130
    assert "stopped" in errors and "frames sent" in output and "p99" in output


def test_a_draining_server_is_left(program: str, fake_server: FakeServer, scan: Path) -> None:
    fake_server.script = "drain"
    fake_server.drained.set()
    done = stream(
        program, scan, "--loop", 3, "--reconnect", SECONDS, "--target", fake_server.target
    )
    assert done.returncode == 0, done.stderr
    assert "DRAINING" in done.stderr and "3 ok, 0 failed" in done.stdout
    assert len(fake_server.opened) == 2


def read_lines(lines: Any, text: str, count: int) -> None:
    """Reads until `count` lines with the text have come."""
    for line in lines:
        count -= text in line
        if not count:
            return
    raise AssertionError(f"the output ended before {count} more lines with {text!r}")


# ---- TLS ---------------------------------------------------------------------------------------


def test_mutual_tls(program: str, fake_server: FakeServer, scan: Path, tmp_path: Path) -> None:
    authority = Authority("test")
    server = authority.issue("server")
    authority.issue("robot").write(tmp_path / "robot.pem", tmp_path / "robot.key")
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    (tmp_path / "token").write_text("secret\n")
    credentials = grpc.ssl_server_credentials(
        [(server.key, server.certificate)], authority.pem, require_client_auth=True
    )
    fake_server.stop()
    fake_server.start(0, credentials)
    address = [scan, "--target", fake_server.target, "--timeout", "10"]
    trust = ["--tls-ca", tmp_path / "ca.pem"]
    robot = ["--tls-certificate", tmp_path / "robot.pem", "--tls-key", tmp_path / "robot.key"]
    done = stream(program, *address, *trust, *robot, "--token-file", tmp_path / "token")
    assert done.returncode == 0, done.stderr
    assert fake_server.metadata[0]["authorization"] == "Bearer secret"
    for words in ([], trust, ["--tls", *robot], [*trust, *robot, "--tls-name", "other"]):
        assert stream(program, *address, *words).returncode == 3
    done = stream(program, *address, *trust, "--tls-key", tmp_path / "robot.key")
    assert done.returncode == 3 and "one is missing" in done.stderr


# ---- against `voxgate serve` -------------------------------------------------------------------


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("torch", reason="the network is exported here")
    from voxgate_ops.export.by_name import ExportOptions, run_export

    folder = tmp_path_factory.mktemp("models")
    for name, points in (("unet", False), ("unet_points", True)):
        options = ExportOptions(
            "sparse_unet",
            folder / name / "1" / "model.onnx",
            points=points,
            point_range=(-51.2, -51.2, -5.0, 51.2, 51.2, 3.0),
            voxel_size=(0.4, 0.4, 0.5),
            spatial_shape=(16, 256, 256),
        )
        options.output.parent.mkdir(parents=True)
        run_export(options, lambda _: None)
    points_model(folder / "norm" / "1" / "model.onnx")
    return folder


@pytest.fixture(scope="module")
def target(models: Path) -> Iterator[str]:
    with serving("--models", str(models)) as (_, address):
        yield address


@pytest.mark.parametrize("model", ["unet", "unet_points", "norm"])
def test_answers_are_the_python_clients(
    program: str, target: str, sweep: Path, tmp_path: Path, model: str
) -> None:
    done = stream(program, sweep, "--target", target, "--model", model, "--save", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    with VoxgateClient(target) as client, client.open_stream(model) as frames:
        frames.send(prepare(read_points(sweep), frames.model))
        result = frames.receive(timeout=SECONDS)
    assert isinstance(result, FrameResult)
    saved = {path.name: np.load(path) for path in tmp_path.iterdir()}
    assert set(saved) == {f"0.{name}.npy" for name in result.outputs}
    for name, expected in result.outputs.items():
        got = saved[f"0.{name}.npy"]
        assert got.dtype == expected.dtype and got.shape == expected.shape and got.size
        assert got.tobytes() == expected.tobytes()


def test_a_bad_frame_costs_that_frame(
    program: str, target: str, sweep: Path, tmp_path: Path
) -> None:
    points = read_points(sweep).points.copy()
    points[7, 3] = np.nan
    points.tofile(tmp_path / "nan.bin")
    files = [sweep, tmp_path / "nan.bin", sweep]
    done = stream(program, *files, "--target", target, "--model", "unet_points")
    assert done.returncode == 1
    assert "2 ok, 1 failed" in done.stdout
    assert re.search(r"INVALID_ARGUMENT: .*  nan.bin", done.stdout)


def test_a_server_that_is_killed(program: str, models: Path, sweep: Path) -> None:
    with serving("--models", str(models)) as (server, target):
        words = [program, str(sweep), "--target", target, "--model", "norm"]
        process = subprocess.Popen(
            [*words, "--rate", "100", "--loop", "100000"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        read_lines(process.stdout, "sweep.bin", 5)
        server.kill()
        output, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == 1
    assert "the stream is over" in errors
    summary = re.search(r"(\d+) frames sent in .*: (\d+) ok, (\d+) failed", output)
    assert summary is not None
    sent, ok, failed = map(int, summary.groups())
    assert sent == ok + failed and ok >= 5


def test_a_server_that_comes_back(program: str, models: Path, sweep: Path) -> None:
    with serving("--models", str(models)) as (server, target):
        words = [program, str(sweep), "--target", target, "--model", "norm", "--reconnect", "60"]
        process = subprocess.Popen(
            [*words, "--rate", "20", "--loop", "100000"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        read_lines(process.stdout, "sweep.bin", 3)
        server.kill()
        server.wait()
    with serving("--models", str(models), "--port", target.rpartition(":")[2]):
        read_lines(process.stdout, "sweep.bin", 10)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == 130
    assert "RECONNECTED" in errors
