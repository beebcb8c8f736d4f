# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""A GPU to run models on; without one, the tests of this folder are skipped with the reason."""

from __future__ import annotations

import os
from itertools import count
from pathlib import Path
from typing import Any

import onnx
import onnxruntime as ort
import pytest
from tests.ops.conftest import Array, OnnxOperators, Sites

from voxgate_ops.cuda_driver import find_driver
from voxgate_ops.device import cuda_obstacle
from voxgate_ops.operator_times import operator_times
from voxgate_ops.session import open_session, operators_library

MODEL_ENTRY = "voxgate.model"


class Gpu:
    """Opens models on the first GPU, and tells on which device their operators ran."""

    device = "cuda:0"

    def open(self, path: os.PathLike[str], **options: Any) -> ort.InferenceSession:
        return open_session(path, device=self.device, **options)

    def count(self) -> int:
        """GPUs of this machine."""
        return len(find_driver().gpus)

    def calls(self, model: str) -> dict[tuple[str, str], int]:
        """Calls by operator and device, of sessions with the configuration entry MODEL_ENTRY."""
        return {
            (row.operator, row.device): row.calls
            for row in operator_times()
            if row.model == model and row.calls
        }


class GpuOperators(OnnxOperators):
    """Models of single operators, on the GPU; one that ran on the CPU instead is an error."""

    rounds_once = False
    _numbers = count()

    def __init__(self, gpu: Gpu, folder: Path) -> None:
        self._gpu = gpu
        self._folder = folder
        self.ran = 0

    def session(self, model: onnx.ModelProto, threads: int = 2) -> ort.InferenceSession:
        self._name = f"gpu-operators-{next(self._numbers)}"
        path = self._folder / f"{self._name}.onnx"
        path.write_bytes(model.SerializeToString())
        return self._gpu.open(path, threads=threads, config={MODEL_ENTRY: self._name})

    def run(self, *arguments: Any, **options: Any) -> list[Array]:
        results = super().run(*arguments, **options)
        calls = self._gpu.calls(self._name)
        assert calls and all(device == "cuda" for _, device in calls), calls
        self.ran += 1
        return results


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Without a GPU one test of each file is left, to say so: the others would but repeat it."""
    folder = Path(__file__).parent
    if not any(item.path.parent == folder for item in items):
        return
    if cuda_obstacle(operators_library) is None:
        return
    files = set()
    left, dropped = [], []
    for item in items:
        again = item.path.parent == folder and item.path in files
        (dropped if again else left).append(item)
        files.add(item.path)
    config.hook.pytest_deselected(items=dropped)
    items[:] = left


@pytest.fixture(scope="session")
def gpu(request: pytest.FixtureRequest) -> Gpu:
    """The GPU. Skips without one; fails, if asked to, where there is one that cannot be used."""
    obstacle = cuda_obstacle(operators_library)
    if obstacle is None:
        return Gpu()
    if request.config.getoption("--require-gpu"):
        pytest.fail(obstacle.reason)
    pytest.skip(obstacle.reason)


@pytest.fixture(autouse=True)
def _only_with_a_gpu(gpu: Gpu) -> None:
    """Skips before a test's own fixtures are made."""


@pytest.fixture(scope="session")
def operators(gpu: Gpu, tmp_path_factory: pytest.TempPathFactory) -> GpuOperators:
    return GpuOperators(gpu, tmp_path_factory.mktemp("operators"))


@pytest.fixture
def sites() -> Sites:
    return Sites()
