# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""The built wheel in an empty environment without a compiler: `make test-wheel`."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

pytestmark = [pytest.mark.wheel, pytest.mark.timeout(1200)]

CLIENT = """
import sys
import numpy as np
from voxgate_client import VoxgateClient

rng = np.random.default_rng(0)
points = rng.uniform([2, -20, -2, 0], [40, 20, 0.5, 1], (20000, 4)).astype(np.float32)
with VoxgateClient(sys.argv[1]) as client:
    (model,) = client.list_models()
    result = client.infer(model.name, points=points)
    print(len(points), *(f"{name}:{len(rows)}" for name, rows in result.outputs.items()))
"""


@dataclass(frozen=True)
class Environment:
    """A virtual environment that has nothing but the wheel and what it depends on."""

    bin: Path

    def run(self, *command: str | Path, expect: int = 0) -> str:
        finished = subprocess.run(
            [self.bin / command[0], *command[1:]],
            capture_output=True,
            text=True,
            check=False,
            env=self.variables(),
            cwd=self.bin,
        )
        output = finished.stdout + finished.stderr
        assert finished.returncode == expect, output
        return output

    def variables(self) -> dict[str, str]:
        # PATH holds the environment alone, so that nothing finds a compiler or our checkout.
        kept = {k: v for k, v in os.environ.items() if k.startswith(("PIP_", "HOME", "SSL_"))}
        return {**kept, "PATH": str(self.bin), "COLUMNS": "100", "NO_COLOR": "1"}


@pytest.fixture(scope="module")
def environment(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    wheels = sorted((repository / "dist").glob("voxgate-*manylinux*.whl"))
    if not wheels:
        pytest.fail("dist/ holds no wheel: run make test-wheel")
    folder = tmp_path_factory.mktemp("wheel") / "env"
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    made = Environment(folder / "bin")
    assert shutil.which("c++", path=str(made.bin)) is None
    constraints = repository / "constraints.txt"
    made.run(
        *("python", "-m", "pip", "install", "--quiet", "--only-binary", ":all:"),
        *("-c", constraints, f"{wheels[-1]}[server]"),
    )
    return made


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model repository, exported by the environment that runs the tests (it has torch)."""
    folder = tmp_path_factory.mktemp("models")
    model = folder / "sparse_unet" / "1" / "model.onnx"
    model.parent.mkdir(parents=True)
    voxgate = Path(sys.executable).with_name("voxgate")
    subprocess.run([voxgate, "export", "sparse_unet", model, "--points"], check=True)
    return folder


@pytest.fixture
def server(environment: Environment, models: Path) -> Iterator[str]:
    command = [environment.bin / "voxgate", "serve", "--models", models, "--host", "127.0.0.1"]
    process = subprocess.Popen(
        [*command, "--port", "0", "--metrics-port", "0"],
        stdout=subprocess.PIPE,
        text=True,
        env=environment.variables(),
        cwd=environment.bin,
    )
    assert process.stdout is not None
    try:
        lines = []
        for line in process.stdout:
            lines.append(line)
            if line.startswith("serving: "):
                break
        else:
            pytest.fail("the server ended early:\n" + "".join(lines))
        yield line.removeprefix("serving: ").strip()
    finally:
        process.send_signal(signal.SIGTERM)
        code = process.wait(timeout=60)
    assert code == 0


def test_the_command_explains_itself(environment: Environment) -> None:
    assert "serve" in environment.run("voxgate", "--help")
    assert environment.run("voxgate", "--version").strip() == "voxgate 0.1.0"


def test_nothing_pulls_torch_in(environment: Environment) -> None:
    environment.run("python", "-c", "import torch", expect=1)
    assert "voxgate[export]" in environment.run(
        *("voxgate", "export", "sparse_unet", "model.onnx"), expect=1
    )


def test_a_session_opens_where_nothing_can_be_compiled(
    environment: Environment, models: Path
) -> None:
    model = models / "sparse_unet" / "1" / "model.onnx"
    assert "points" in environment.run("voxgate", "inspect", model)
    program = f"from voxgate_ops.session import open_session; open_session({str(model)!r})"
    environment.run("python", "-c", program)


def test_it_serves(environment: Environment, server: str) -> None:
    words = environment.run("python", "-c", CLIENT, server).split()
    rows = dict(word.split(":") for word in words[1:])
    assert int(words[0]) == int(rows["label"]) == int(rows["score"])
