# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""The operators' CUDA kernels inside ONNX Runtime, on the emulator of tests/cuda_emulation.

The operator library is as on a GPU but for the functions that only ONNX Runtime's CUDA provider can
answer; device memory is host memory.
"""

from __future__ import annotations

import os
from pathlib import Path

import onnx
import onnxruntime as ort
import pytest
from tests.ops.conftest import FATAL, OnnxOperators

# Another build folder's; without it, the library that `make test-native` builds.
EMULATED_VARIABLE = "VOXGATE_EMULATED_OPERATORS_LIBRARY"
_BUILT = "build/editable/tests/cuda_emulation/onnxruntime/libvoxgate_onnxruntime_emulated.so"


class EmulatedOperators(OnnxOperators):
    """Models of single operators, on emulated CUDA kernels."""

    rounds_once = False

    def __init__(self, library: Path) -> None:
        self._library = library

    def session(self, model: onnx.ModelProto, threads: int = 2) -> ort.InferenceSession:
        options = ort.SessionOptions()
        options.log_severity_level = FATAL
        options.intra_op_num_threads = threads
        options.register_custom_ops_library(os.fspath(self._library))
        return ort.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Many sites only on one and on three axes: emulation is slow."""
    folder = Path(__file__).parent
    left, dropped = [], []
    for item in items:
        given = getattr(getattr(item, "callspec", None), "params", {})
        long = given.get("count", 0) > 100 and given.get("axes", 3) in (2, 4)
        (dropped if item.path.parent == folder and long else left).append(item)
    config.hook.pytest_deselected(items=dropped)
    items[:] = left


@pytest.fixture(scope="session")
def emulated_library() -> Path:
    named = os.environ.get(EMULATED_VARIABLE)
    library = Path(named) if named else Path(__file__).parents[3] / _BUILT
    if not library.is_file():
        pytest.skip(f"no {library}: `make test-native` builds it")
    return library


@pytest.fixture(scope="session")
def operators(emulated_library: Path) -> EmulatedOperators:
    return EmulatedOperators(emulated_library)
