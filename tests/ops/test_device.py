# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Which device a model gets, and what is said where a GPU cannot be had.

The GPU is one that a false driver library tells of (fake_cuda.c), in a process of its own: a real
driver, where there is one, is never asked.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from onnxruntime.capi import build_and_package_info

from voxgate_ops.device import (
    Device,
    Obstacle,
    choose_device,
    cuda_libraries,
    cuda_version,
    provider_options,
)
from voxgate_ops.session import operators_library

GPUS = "NVIDIA H100=90;NVIDIA A100=80;Tesla T4=75"

# Prints a line for each device asked for: the one given, or why not, and what was logged.
CHILD = """
import json, logging, sys
from pathlib import Path
from voxgate_ops.device import Obstacle, choose_device
logged = []
class Keep(logging.Handler):
    def emit(self, record):
        logged.append([record.levelname, record.getMessage()])
logging.getLogger("voxgate_ops.device").addHandler(Keep())
logging.getLogger("voxgate_ops.device").setLevel(logging.DEBUG)
library, *names = sys.argv[1:]
for name in names:
    logged.clear()
    chosen = choose_device(name, lambda: Path(library))
    refused = isinstance(chosen, Obstacle)
    print(json.dumps({"device": "" if refused else str(chosen), "reason": chosen.reason,
                      "gpu_here": refused and chosen.gpu_here, "logged": logged}))
"""


class FakeMachine:
    """A folder of false libraries, and processes that find it before the system's."""

    def __init__(self, folder: Path, compiler: str) -> None:
        self.folder = folder
        self.operators = folder / "operators.so"
        source = Path(__file__).with_name("fake_cuda.c")
        command = [compiler, "-shared", "-fPIC", "-o", self.operators, source]
        subprocess.run(command, check=True)
        for name in ["libcuda.so.1", *cuda_libraries()]:
            shutil.copy(self.operators, folder / name)

    def run(self, *command: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
        environment = {
            **os.environ,
            "LD_LIBRARY_PATH": str(self.folder),
            "FAKE_GPUS": GPUS,
            **variables,
        }
        return subprocess.run(
            [sys.executable, "-c", *map(str, command)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def choose(self, *devices: str, library: Path | None = None, **variables: str) -> list[dict]:
        """What each of the devices comes to."""
        done = self.run(CHILD, library or self.operators, *devices, **variables)
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture
def machine(tmp_path: Path) -> FakeMachine:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if sys.platform != "linux" or compiler is None:
        pytest.skip("no C compiler, or no Linux, to make a false driver with")
    if not cuda_libraries():
        pytest.skip("ONNX Runtime here is one without CUDA")
    return FakeMachine(tmp_path, compiler)


def test_a_gpu_with_all_that_it_needs_is_taken(machine):
    chosen = machine.choose("auto", "cuda", "cuda:0", "cuda:1")
    assert [one["device"] for one in chosen] == ["cuda:0", "cuda:0", "cuda:0", "cuda:1"]
    assert all((one["reason"], one["logged"]) == ("", []) for one in chosen)


OBSTACLES = [
    pytest.param({"FAKE_GPUS": ""}, False, "no NVIDIA GPU: the driver shows none", id="no GPU"),
    pytest.param(
        {"FAKE_INIT": "100", "CUDA_VISIBLE_DEVICES": "7"},
        False,
        "cuInit gave error 100, no CUDA-capable device is detected (CUDA_VISIBLE_DEVICES is '7')",
        id="hidden",
    ),
    pytest.param(
        {"FAKE_GPUS": "Tesla T4=75"},
        True,
        "GPU 0 (Tesla T4) has compute capability 7.5, at least 8.0 is needed",
        id="old GPU",
    ),
    pytest.param(
        {"FAKE_VERSION": "11080"},
        True,
        "the driver runs CUDA 11.8 and ONNX Runtime",
        id="old driver",
    ),
    pytest.param({"FAKE_OPERATORS": "0"}, True, "was built without CUDA", id="operators"),
    pytest.param({"FAKE_RUNTIME_GPUS": "0"}, True, "finds 0 GPUs", id="runtime"),
]


@pytest.mark.parametrize(("variables", "gpu_here", "said"), OBSTACLES)
def test_what_is_missing_is_named(machine, variables, gpu_here, said):
    refused, instead = machine.choose("cuda:0", "auto", **variables)
    assert refused["device"] == ""
    assert said in refused["reason"]
    assert (refused["gpu_here"], refused["logged"]) == (gpu_here, [])
    # `auto` is the CPU then, and says so once.
    assert (instead["device"], instead["reason"]) == ("cpu", refused["reason"])
    level = "WARNING" if gpu_here else "INFO"
    assert instead["logged"] == [[level, f"device auto is the CPU: {refused['reason']}"]]


def test_the_cuda_of_this_installation(machine, monkeypatch):
    monkeypatch.setattr(build_and_package_info, "cuda_version", "13.0", raising=False)
    assert cuda_version(lambda: machine.operators) == "13.0"
    monkeypatch.setenv("FAKE_OPERATORS", "0")
    assert cuda_version(lambda: machine.operators) == ""
    monkeypatch.delenv("FAKE_OPERATORS")
    monkeypatch.setattr(build_and_package_info, "cuda_version", "", raising=False)
    assert cuda_version(lambda: machine.operators) == ""
    monkeypatch.undo()
    assert cuda_version(lambda: machine.folder / "gone.so") == ""


def test_a_gpu_that_is_not_there(machine):
    absent, old, cpu = machine.choose("cuda:3", "cuda:2", "cpu")
    said = "there is no GPU 3, the driver shows 3 (0: NVIDIA H100, 80 GiB; 1:"
    assert absent["reason"].startswith(said)
    assert "compute capability 7.5" in old["reason"]
    assert cpu["device"] == "cpu"


def test_an_operator_library_from_before_cuda(machine):
    before = machine.folder / "before.so"
    command = ["cc", "-shared", "-fPIC", "-x", "c", "-o", before, "/dev/null"]
    subprocess.run(command, check=True)
    (chosen,) = machine.choose("cuda", library=before)
    assert f"{before} was built without CUDA" in chosen["reason"]


@pytest.mark.parametrize("missing", cuda_libraries())
def test_a_missing_library_is_named(machine, missing):
    (machine.folder / missing).unlink()
    (chosen,) = machine.choose("cuda")
    if chosen["device"]:
        pytest.skip(f"{missing} is on this machine")
    assert f"a library of CUDA is missing: {missing}: cannot open" in chosen["reason"]
    assert "pip install 'voxgate[cuda]'" in chosen["reason"]
    assert chosen["gpu_here"]


def test_a_machine_without_a_driver(tmp_path: Path):
    """Its own libcuda.so.1 is an empty file: what the loader refuses, not what is absent."""
    (tmp_path / "libcuda.so.1").write_bytes(b"")
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(operators_library()), "cuda"],
        env={**os.environ, "LD_LIBRARY_PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    chosen = json.loads(done.stdout)
    assert "no NVIDIA GPU: no driver here (" in chosen["reason"]
    assert not chosen["gpu_here"]


OPEN = """
import sys
from voxgate_ops.session import check_model
from voxgate_ops.device import Device
from dataclasses import replace
file = check_model(sys.argv[1], device="cpu")
replace(file, device=Device(1)).open()
"""


def test_onnx_runtime_does_not_fall_back_in_silence(machine, model_of_one_operator):
    """The false libraries are there, and ONNX Runtime's provider cannot be linked with them."""
    done = machine.run(OPEN, model_of_one_operator)
    assert "ModelError" in done.stderr
    assert "cannot run on cuda:1: ONNX Runtime could not start its CUDA provider" in done.stderr


@pytest.fixture
def model_of_one_operator(tmp_path: Path, operators) -> Path:
    node = operators.node(
        "SubmanifoldRulebook", ["coords"], ["out"], kernel_size=[3], spatial_shape=[8]
    )
    model = operators.model([node], {"coords": np.zeros((0, 2), np.int32)}, ["out"])
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def test_the_libraries_are_those_that_the_provider_asks_for():
    provider = Path(ort.__file__).parent / "capi" / "libonnxruntime_providers_cuda.so"
    objdump = shutil.which("objdump")
    if objdump is None or not provider.is_file():
        pytest.skip("no objdump, or an ONNX Runtime without CUDA")
    said = subprocess.run([objdump, "-p", provider], capture_output=True, text=True, check=True)
    needed = set(re.findall(r"NEEDED\s+(\S+)", said.stdout))
    of_the_system = {name for name in needed if not name.startswith("libcu")}
    # cuDNN is opened when the first node needs it; the driver brings libcuda itself.
    assert needed - of_the_system == {*cuda_libraries(), "libcuda.so.1"} - {"libcudnn.so.9"}


def test_the_image_installs_what_the_libraries_come_from(repository):
    pyproject = tomllib.loads((repository / "pyproject.toml").read_text())
    (runtime, *_) = pyproject["project"]["optional-dependencies"]["cuda"]
    assert runtime.startswith("onnxruntime-gpu[cuda,cudnn]")
    assert "requirements.py server cuda" in (repository / "deploy/Dockerfile.cuda").read_text()


def test_onnx_runtime_does_not_call_home():
    said = "import voxgate_server, os; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    environment = {k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY"}
    command = [sys.executable, "-c", said]
    for given, held in (({}, "1"), ({"ORT_DISABLE_TELEMETRY": "0"}, "0")):
        done = subprocess.run(
            command, env=environment | given, capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == held


def test_options_of_the_cuda_provider():
    options = provider_options(3, use_tf32=False)
    assert options["device_id"] == "3"
    assert options["use_tf32"] == "0"
    assert options["cudnn_conv_algo_search"] == "HEURISTIC"
    assert provider_options(0, use_tf32=True)["use_tf32"] == "1"


@pytest.mark.parametrize("name", ["", "gpu", "cuda:", "cuda:-1", "CUDA", "auto:0", "cuda:0 "])
def test_names_that_are_none(name):
    with pytest.raises(ValueError, match="expected auto, cpu, cuda or cuda:N"):
        choose_device(name, operators_library)


def test_devices_as_text():
    assert [str(Device()), str(Device(0)), str(Device(11))] == ["cpu", "cuda:0", "cuda:11"]
    assert not isinstance(choose_device("cpu", operators_library), Obstacle)
