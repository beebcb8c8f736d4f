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

import numpy as np
import pytest

pytestmark = [pytest.mark.wheel, pytest.mark.timeout(1200)]


@dataclass(frozen=True)
class Environment:
    """A virtual environment that has nothing but the wheel and what it depends on."""

    bin: Path

    def run(self, *command: str | Path, expect: int = 0, folder: Path | None = None) -> str:
        finished = subprocess.run(
            [self.bin / command[0], *command[1:]],
            capture_output=True,
            text=True,
            check=False,
            env=self.variables(),
            cwd=folder or self.bin,
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


def test_the_client_of_the_readme_gets_its_answers(
    environment: Environment, server: str, repository: Path, tmp_path: Path
) -> None:
    readme = (repository / "README.md").read_text()
    program = readme.partition("```python\n")[2].partition("```")[0]
    assert "localhost:8001" in program
    rng = np.random.default_rng(0)
    for name in ("0.bin", "1.bin"):
        points = rng.uniform([2, -20, -2, 0], [40, 20, 0.5, 1], (20000, 4))
        points.astype(np.float32).tofile(tmp_path / name)

    program = program.replace("localhost:8001", server)
    printed = environment.run("python", "-c", program, folder=tmp_path)

    assert printed.count("Timing(") == len(("0.bin", "1.bin"))
