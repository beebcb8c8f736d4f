# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""`voxgate serve` as the process that an operator starts."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import grpc
import pytest
import yaml
from tests.server.driver import frame

from voxgate_protos import voxel_inference_pb2 as pb
from voxgate_protos import voxel_inference_pb2_grpc as pb_grpc
from voxgate_server.settings_layers import fields, flag_of, panel_of

COMMAND = [sys.executable, "-c", "import typer, voxgate_server.commands as c; typer.run(c.serve)"]
LOCAL = {"VOXGATE_HOST": "127.0.0.1", "VOXGATE_PORT": "0", "VOXGATE_METRICS_PORT": "0"}
STOP_SECONDS = 15


@contextmanager
def serving(
    *arguments: str, stderr: int | IO[str] = subprocess.DEVNULL
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    process = subprocess.Popen(
        [*COMMAND, *arguments],
        env=os.environ | LOCAL,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
    )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("serving: "):
                yield process, line.removeprefix("serving: ").strip()
                break
        else:
            raise AssertionError("the server ended without serving")
    finally:
        process.kill()
        process.wait()


def failed_start(*arguments: str, **environment: str) -> tuple[int, str]:
    process = subprocess.run(
        [*COMMAND, *arguments],
        env=os.environ | LOCAL | environment | {"COLUMNS": "500"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return process.returncode, process.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serves_until_the_signal_and_ends_well(model_folder: Path, number: int) -> None:
    with serving("--models", str(model_folder), "--threads", "1") as (process, target):
        channel = grpc.insecure_channel(target)
        stub = pb_grpc.VoxelInferenceStub(channel)
        requests = [
            pb.StreamRequest(open=pb.StreamOpen(model="voxels")),
            pb.StreamRequest(frame=frame("a")),
        ]
        responses = list(stub.StreamInfer(iter(requests), timeout=20))
        assert [r.WhichOneof("message") for r in responses] == ["opened", "result"]
        process.send_signal(number)
        assert process.wait(STOP_SECONDS) == 0
        channel.close()


def test_a_second_interrupt_does_not_wait_for_the_drain(model_folder: Path) -> None:
    """Unread answers, more than the connection buffers, would hold the drain for 20 s."""
    with (
        serving("--models", str(model_folder)) as (process, target),
        grpc.insecure_channel(target, [("grpc.http2.bdp_probe", 0)]) as channel,
    ):
        never = threading.Event()

        def requests() -> Iterator[pb.StreamRequest]:
            yield pb.StreamRequest(open=pb.StreamOpen(model="voxels", max_queued_frames=64))
            for index in range(60):
                yield pb.StreamRequest(frame=frame(f"{index}", 2000))
            never.wait(60)

        call = pb_grpc.VoxelInferenceStub(channel).StreamInfer(requests())
        assert [next(call).WhichOneof("message") for _ in range(2)] == ["opened", "result"]
        time.sleep(0.5)  # for the server to have answered what it can
        for number in (signal.SIGTERM, signal.SIGTERM):  # supervisors send it more than once
            process.send_signal(number)
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(1.0)
        process.send_signal(signal.SIGINT)
        assert process.wait(STOP_SECONDS) == 0
        never.set()


def test_a_port_in_use_is_named(model_folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for flag in ("--port", "--metrics-port"):
            code, message = failed_start("--models", str(model_folder), flag, port)
            assert code == 1
            assert f"cannot listen on 127.0.0.1:{port}" in message
            assert "Address already in use" in message and flag in message
            assert "Traceback" not in message


def test_a_folder_without_models_is_explained(tmp_path: Path) -> None:
    code, message = failed_start("--models", str(tmp_path), "--poll-interval", "0")
    assert code == 1
    assert "has no models" in message and "NAME/VERSION/model.onnx" in message
    code, message = failed_start("--models", str(tmp_path / "gone"))
    assert code == 1
    assert "is not a folder" in message
    assert "Traceback" not in message


def test_settings_that_make_no_sense(model_folder: Path) -> None:
    code, message = failed_start("--models", str(model_folder), "--threads", "0")
    assert code == 2
    assert "threads" in message and "0" in message
    code, message = failed_start("--models", str(model_folder), VOXGATE_CHUNK_TIMEOUT="soon")
    assert code == 2
    assert "chunk_timeout" in message and "soon" in message
    code, message = failed_start("--models", str(model_folder), VOXGATE_DEVICE="gpu")
    assert code == 2
    assert "device" in message and "gpu" in message


def test_a_misspelt_variable_is_no_silent_default(model_folder: Path) -> None:
    code, message = failed_start("--models", str(model_folder), VOXGATE_DRAIN_TIME_OUT="5")
    assert code == 2
    assert "VOXGATE_DRAIN_TIME_OUT; did you mean VOXGATE_DRAIN_TIMEOUT?" in message
    assert "Traceback" not in message


def test_serves_from_a_file_and_logs_json(model_folder: Path, tmp_path: Path) -> None:
    config, log = tmp_path / "voxgate.yaml", tmp_path / "log"
    config.write_text(f"models: {model_folder}\nthreads: 1\nlog_format: json\n")
    with (
        log.open("w") as stderr,
        serving("--config", str(config), stderr=stderr) as (process, _),
    ):
        process.send_signal(signal.SIGTERM)
        assert process.wait(STOP_SECONDS) == 0
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert lines and all({"ts", "level", "logger", "message"} <= set(line) for line in lines)


def printed(*arguments: str, **environment: str) -> str:
    answer = subprocess.run(
        [*COMMAND, *arguments, "--print-config"],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert answer.stderr == ""
    return answer.stdout


def test_printed_settings_can_be_given_back(tmp_path: Path) -> None:
    first = printed("--models", str(tmp_path / "gone"), "--no-warm-up", VOXGATE_PORT="9")
    assert "warm_up: false  # from --no-warm-up" in first
    assert "port: 9  # from VOXGATE_PORT" in first
    config = tmp_path / "voxgate.yaml"
    config.write_text(first)
    again = printed("--config", str(config))
    assert yaml.safe_load(again) == yaml.safe_load(first)
    assert f"port: 9  # from {config}:" in again
    assert yaml.safe_load(printed(VOXGATE_CONFIG=str(config))) == yaml.safe_load(first)


def test_help_teaches() -> None:
    answer = subprocess.run(
        [*COMMAND, "--help"],
        env=os.environ | {"COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    for text in ("SIGTERM", "voxgate stream", "--config", "--print-config", "VOXGATE_PORT"):
        assert text in answer.stdout
    for name, field in fields().items():
        assert flag_of(name) in answer.stdout and panel_of(field) in answer.stdout
    assert "--no-warm-up" in answer.stdout
    assert "64MiB" in answer.stdout
