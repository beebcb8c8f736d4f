# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""`voxgate serve` as the process that an operator starts."""

from __future__ import annotations

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

import grpc
import pytest
from tests.server.driver import frame

from voxgate_protos import voxel_inference_pb2 as pb
from voxgate_protos import voxel_inference_pb2_grpc as pb_grpc

COMMAND = [sys.executable, "-c", "import typer, voxgate_server.commands as c; typer.run(c.serve)"]
LOCAL = {"VOXGATE_HOST": "127.0.0.1", "VOXGATE_PORT": "0", "VOXGATE_METRICS_PORT": "0"}
STOP_SECONDS = 15


@contextmanager
def serving(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    process = subprocess.Popen(
        [*COMMAND, *arguments],
        env=os.environ | LOCAL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
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


def test_a_second_signal_does_not_wait_for_the_drain(model_folder: Path) -> None:
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
        process.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1.0)
        process.send_signal(signal.SIGTERM)
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
    code, message = failed_start("--models", str(tmp_path))
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


def test_help_teaches() -> None:
    answer = subprocess.run(
        [*COMMAND, "--help"], capture_output=True, text=True, timeout=60, check=True
    )
    for text in ("--models", "--metrics-port", "SIGTERM", "voxgate stream"):
        assert text in answer.stdout
