# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Models that are broken, or that would fill memory: a reason for people, and the others serve."""

from __future__ import annotations

from pathlib import Path

import grpc
import numpy as np
import pytest
from tests.server.driver import frame, voxels
from tests.server.models import EXPLOSIONS, exploding_model, overflowing_model, voxel_model

from voxgate_protos import voxel_inference_pb2 as pb

INVALID = grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("kind", EXPLOSIONS)
async def test_what_would_fill_memory_is_refused(start_server, tmp_path: Path, kind: str) -> None:
    grid, parts = EXPLOSIONS[kind]
    exploding_model(tmp_path / kind / "1" / "model.onnx", kind)
    voxel_model(tmp_path / "voxels" / "1" / "model.onnx")
    client = await start_server(models=tmp_path)
    stream = await client.opened(kind)
    coords = np.zeros((1000, len(grid)), np.int32)
    coords[:, 0] = np.arange(1000)
    many = voxels(coords, np.ones((1000, 2), np.float32))
    await stream.send(frame=pb.Frame(frame_id="big", voxels=many))
    error = await stream.error()
    assert (error.frame_id, error.code) == (
        "big",
        grpc.StatusCode.RESOURCE_EXHAUSTED.value[0],
    )
    for part in parts:
        assert part in error.message
    outside = voxels(np.full((1, len(grid)), 4096, np.int32), np.ones((1, 2), np.float32))
    await stream.send(frame=pb.Frame(frame_id="next", voxels=outside))
    assert (await stream.error()).code == INVALID.value[0]
    assert (await client.infer(frame("good"))).frame_id == "good"
    assert await client.settle(3) == {"ok": 1, "overloaded": 1, "invalid": 1}


def break_model(folder: Path, whole: bytes) -> dict[str, str]:
    """Broken versions of a model beside a good one; what each one's reason must say."""
    overflowing_model(folder / "overflowing" / "1" / "model.onnx")
    broken = {
        "truncated": whole[: len(whole) // 2],
        "text": b"this is no model\n" * 50,
        "empty": b"",
        "nameless": whole.replace(b"voxgate", b"someone"),
    }
    for name, data in broken.items():
        path = folder / name / "1" / "model.onnx"
        path.parent.mkdir(parents=True)
        path.write_bytes(data)
    return {
        "truncated": "ONNX",
        "text": "ONNX",
        "empty": "0 bytes",
        "nameless": "metadata",
        "overflowing": "2147483647",
    }


async def test_broken_models_are_listed_and_stop_no_other(
    start_server, tmp_path: Path, model_folder: Path
) -> None:
    good_file = model_folder / "voxels" / "1" / "model.onnx"
    reasons = break_model(tmp_path, good_file.read_bytes())
    for version in ("1", "2"):
        (tmp_path / "voxels" / version).mkdir(parents=True)
    (tmp_path / "voxels" / "1" / "model.onnx").write_bytes(good_file.read_bytes())
    (tmp_path / "voxels" / "2" / "model.onnx").write_bytes(good_file.read_bytes()[:-50])
    client = await start_server(models=tmp_path)
    listed = {
        (m.name, m.version): m
        for m in (await client.stub.ListModels(pb.ListModelsRequest())).models
    }
    for name, text in reasons.items():
        info = listed[name, "1"]
        assert info.state == pb.ModelInfo.FAILED
        assert text in info.state_reason
        error = await client.failed_infer(frame("a"), model=name)
        assert error.code() == grpc.StatusCode.NOT_FOUND
        assert "failed to load" in error.details()
    assert listed["voxels", "2"].state == pb.ModelInfo.FAILED
    assert (await client.infer(frame("a"))).version == "1"
    pinned = await client.failed_infer(frame("a"), version="2")
    assert pinned.code() == grpc.StatusCode.NOT_FOUND


async def test_a_missing_operator_library_is_a_reason_not_a_crash(
    start_server, monkeypatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("VOXGATE_OPERATORS_LIBRARY", str(tmp_path / "gone.so"))
    client = await start_server()
    models = (await client.stub.ListModels(pb.ListModelsRequest())).models
    assert {m.state for m in models} == {pb.ModelInfo.FAILED}
    assert all("gone.so" in m.state_reason for m in models)
    assert (await client.http("/readyz"))[0] == 503
    assert (await client.http("/livez"))[0] == 200
