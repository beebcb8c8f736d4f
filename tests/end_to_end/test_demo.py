# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""`deploy/demo.py` as `make demo` runs it, and that it leaves nothing running."""

from __future__ import annotations

import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo") / "models"


def command(repository: Path, models: Path, *words: str) -> list[str]:
    return [sys.executable, str(repository / "deploy/demo.py"), "--models", str(models), *words]


def servers_of(models: Path) -> Iterator[int]:
    """Process ids of servers that serve this folder."""
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().split(b"\0")
        except OSError:
            continue
        if b"serve" in words and os.fsencode(models) in words:
            yield int(entry.parent.name)


def test_demo_twice(repository: Path, models: Path) -> None:
    for run in range(2):
        done = subprocess.run(
            command(repository, models, "--frames", "2"),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        for text in ("answer: label", "execute", "2 ok, 0 failed", 'outcome="ok"', "not trained"):
            assert text in done.stdout
        assert ("is there already" in done.stdout) == (run == 1)
        assert list(servers_of(models)) == []


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 128 + signal.SIGTERM)]
)
def test_interrupted_demo_stops_its_server(
    number: int, status: int, repository: Path, models: Path
) -> None:
    with subprocess.Popen(
        command(repository, models, "--frames", "500"), stdout=subprocess.PIPE, text=True
    ) as demo:
        assert demo.stdout is not None
        for line in demo.stdout:
            if "voxgate stream" in line:
                break
        assert len(list(servers_of(models))) == 1
        demo.send_signal(number)
        demo.stdout.read()
        assert demo.wait(60) == status
    assert list(servers_of(models)) == []


def test_demo_with_a_broken_model_says_what_to_do(repository: Path, tmp_path: Path) -> None:
    model = tmp_path / "sparse_unet" / "1" / "model.onnx"
    model.parent.mkdir(parents=True)
    model.write_bytes(b"no model")
    done = subprocess.run(
        command(repository, tmp_path), capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "FAILED" in done.stderr and "delete the folder sparse_unet" in done.stderr
    assert list(servers_of(tmp_path)) == []


def test_a_server_that_does_not_end_is_killed(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    demo = runpy.run_path(str(repository / "deploy/demo.py"))
    monkeypatch.setitem(demo["_stop"].__globals__, "STOP_TIMEOUT_S", 0.2)
    deaf = "import signal; signal.signal(15, signal.SIG_IGN); print('on', flush=True); input()"
    server = subprocess.Popen(
        [sys.executable, "-c", deaf],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert server.stdout is not None and server.stdout.readline() == "on\n"
    with pytest.raises(demo["DemoError"], match="did not end in 0 s and was killed"):
        demo["_stop"](server)
    assert server.poll() == -signal.SIGKILL


def test_metrics_that_cannot_be_read_are_a_message(repository: Path) -> None:
    demo = runpy.run_path(str(repository / "deploy/demo.py"))
    with pytest.raises(demo["DemoError"], match="metrics cannot be read"):
        demo["_show_metrics"]("http://127.0.0.1:1/metrics")
