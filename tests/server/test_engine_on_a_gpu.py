# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Engines on a GPU, as far as the host decides: which device, memory that runs out, a GPU lost."""

from __future__ import annotations

import asyncio
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnxruntime as ort
import pytest
from tests.server.batch_models import cumulative_sum, every_meaning, row_model
from tests.server.conftest import Load

from voxgate_ops import session
from voxgate_ops.device import CUDA_PROVIDER, Device
from voxgate_ops.session import ModelFile
from voxgate_server.batch import HighWater
from voxgate_server.errors import InternalError, ModelLimitExceeded
from voxgate_server.warm_up import synthetic_frame


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return every_meaning(tmp_path_factory.mktemp("engine") / "model.onnx")


@pytest.fixture
def on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Sessions say that they run on cuda:1, and run on the CPU. Each one's `use_tf32` is noted."""
    opened: list[bool] = []
    file_open = ModelFile.open

    def noted(self: ModelFile, *, use_tf32: bool = False, **given: Any) -> ort.InferenceSession:
        assert self.device == Device(1)
        opened.append(use_tf32)
        return file_open(replace(self, device=Device()), **given)

    monkeypatch.setattr(session, "choose_device", lambda name, library: Device(1))
    monkeypatch.setattr(ModelFile, "open", noted)
    monkeypatch.setattr(
        ort.InferenceSession,
        "get_provider_options",
        lambda self: {CUDA_PROVIDER: {"device_id": "1"}, "CPUExecutionProvider": {}},
    )
    return opened


def test_what_an_engine_on_a_gpu_says_of_itself(
    model: Path, load: Load, on_a_gpu: list[bool]
) -> None:
    engine = load(model, device="auto", instances=2)
    assert (engine.device, engine.instances) == ("cuda:1", 2)
    assert engine.default_max_batch_sites == 400_000
    assert on_a_gpu == [False, False]
    load(model, device="cuda:1", use_tf32=True)
    assert on_a_gpu == [False, False, True]


def test_on_a_gpu_a_batch_may_change_the_last_bits(
    tmp_path: Path, load: Load, on_a_gpu: list[bool], caplog: pytest.LogCaptureFixture
) -> None:
    assert load(row_model(tmp_path / "model.onnx", *cumulative_sum(), columns=4)).batchable
    assert "not the same bits" not in caplog.text


async def test_memory_of_a_gpu_that_cannot_be_given_back_costs_no_frame(
    model: Path,
    load: Load,
    on_a_gpu: list[bool],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The session, which is really one on the CPU, has no arena `gpu:1`: ONNX Runtime refuses."""
    engine = load(model)
    monkeypatch.setattr(HighWater, "use", lambda self, size: True)
    frame = synthetic_frame(engine.frame_spec, engine.metadata, 19)
    for _ in range(3):
        (execution,) = await engine.run([frame], list(engine.outputs.values()))
        assert execution.batch_sites == 19
    assert caplog.text.count("memory is kept that is no longer needed") == 1
    assert "gpu:1" in caplog.text


@pytest.mark.parametrize(
    "said",
    [
        "Failed to allocate memory for requested buffer of size 4294967296",
        "CUDA failure 2: out of memory ; GPU=0",
        "CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED ; GPU=0",
        "CUBLAS failure 3: the resource allocation failed ; GPU=0",
        "CUDNN failure 5003: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED ; GPU=0",
    ],
)
async def test_memory_of_a_gpu_that_runs_out_is_a_limit(
    model: Path, load: Load, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    engine = load(model)
    frame = synthetic_frame(engine.frame_spec, engine.metadata, 19)

    def run(self: ort.InferenceSession, *given: object) -> None:
        raise RuntimeError(said)

    monkeypatch.setattr(ort.InferenceSession, "run", run)
    with pytest.raises(ModelLimitExceeded, match="no room for the frame"):
        await engine.run([frame], list(engine.outputs.values()))


async def test_a_gpu_on_which_nothing_runs_any_more_is_lost(
    model: Path,
    load: Load,
    on_a_gpu: list[bool],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    engine = load(model)
    outputs = list(engine.outputs.values())
    broken = {19}
    sessions = set()
    run = ort.InferenceSession.run

    def failing(self: ort.InferenceSession, names: list[str], feeds: Any, options: Any) -> Any:
        sessions.add(weakref.ref(self))
        if len(feeds["features"]) in broken:
            raise RuntimeError("CUDA failure 700: an illegal memory access was encountered")
        return run(self, names, feeds, options)

    async def fails(sites: int) -> None:
        with pytest.raises(InternalError, match="illegal memory access"):
            await engine.run([synthetic_frame(engine.frame_spec, engine.metadata, sites)], outputs)
        with pytest.raises(InternalError):  # answered after the GPU has been looked at
            await engine.run([synthetic_frame(engine.frame_spec, engine.metadata, 19)], outputs)

    monkeypatch.setattr(ort.InferenceSession, "run", failing)
    await fails(19)
    assert not engine.lost
    broken |= {1, 2}
    await fails(2)
    assert engine.lost.startswith("cuda:1 is lost: ") and "illegal memory" in engine.lost
    assert engine.lost in caplog.text
    assert await asyncio.to_thread(engine.close)
    assert sessions and all(session() is not None for session in sessions)
