# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""A real scan through exported networks and the server: the answers of the session in-process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from tests.server.test_commands import serving

from voxgate_ops import _native
from voxgate_ops.session import open_session
from voxgate_protos import voxel_inference_pb2 as pb
from voxgate_protos import voxel_inference_pb2_grpc as pb_grpc

pytest.importorskip("torch", reason="the networks are exported here")

Array = NDArray[Any]
# SECOND's grid for KITTI (OpenPCDet's kitti configuration): 41,281 sites of this scan, voxelized in
# float32 as the operator does it.
POINT_RANGE = (0.0, -40.0, -3.0, 70.4, 40.0, 1.0)
VOXEL_SIZE = (0.05, 0.05, 0.1)
SPATIAL_SHAPE = (41, 1600, 1408)
THREADS = 2
NUMPY = {pb.FLOAT32: np.float32, pb.INT32: np.int32}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from voxgate_ops.export.by_name import ExportOptions, run_export

    folder = tmp_path_factory.mktemp("exported")
    for name, network, points in (
        ("unet", "sparse_unet", False),
        ("unet_points", "sparse_unet", True),
        ("backbone", "voxel_backbone8x", False),
    ):
        options = ExportOptions(
            network,
            folder / name / "1" / "model.onnx",
            points=points,
            point_range=POINT_RANGE,
            voxel_size=VOXEL_SIZE,
            spatial_shape=SPATIAL_SHAPE,
        )
        options.output.parent.mkdir(parents=True)
        run_export(options, lambda _: None)
    return folder


@pytest.fixture(scope="module")
def stub(models: Path) -> Iterator[pb_grpc.VoxelInferenceStub]:
    with serving("--models", str(models), "--threads", str(THREADS)) as (_, target):
        channel = grpc.insecure_channel(target, [("grpc.max_receive_message_length", -1)])
        yield pb_grpc.VoxelInferenceStub(channel)
        channel.close()


@pytest.fixture(scope="module")
def points(data_file: Callable[[str], Path]) -> Array:
    return np.fromfile(data_file("kitti_000000_full.bin"), np.float32).reshape(-1, 4)


@pytest.fixture(scope="module")
def sites(points: Array) -> tuple[Array, Array]:
    """The scan's sites in an order of no meaning: int32 [N, 3] and float32 [N, 4]."""
    batch = np.zeros(len(points), np.int32)
    coords, features, _ = _native.voxelize(points, batch, list(POINT_RANGE), list(VOXEL_SIZE))
    order = np.random.default_rng(0).permutation(len(coords))
    return np.ascontiguousarray(coords[order, 1:]), np.ascontiguousarray(features[order])


def session(models: Path, name: str) -> ort.InferenceSession:
    return open_session(models / name / "1" / "model.onnx", threads=THREADS)


def voxel_frame(frame_id: str, coords: Array, features: Array) -> pb.Frame:
    payload = pb.SparseVoxels(
        num_sites=len(coords),
        coords_dtype=pb.INT32,
        coords=coords.tobytes(),
        num_features=features.shape[1],
        features_dtype=pb.FLOAT32,
        features=features.tobytes(),
    )
    return pb.Frame(frame_id=frame_id, voxels=payload)


def stream(
    stub: pb_grpc.VoxelInferenceStub, model: str, frames: list[pb.Frame]
) -> list[dict[str, Array]]:
    """The outputs of each frame, by name."""
    requests = [pb.StreamRequest(open=pb.StreamOpen(model=model, max_queued_frames=32))]
    requests += [pb.StreamRequest(frame=frame) for frame in frames]
    opened, *answers = list(stub.StreamInfer(iter(requests), timeout=120))
    assert opened.opened.model.name == model
    assert [a.result.frame_id for a in answers] == [f.frame_id for f in frames]
    return [
        {
            t.name: np.frombuffer(t.data, NUMPY[t.dtype]).reshape(tuple(t.shape))
            for t in answer.result.outputs
        }
        for answer in answers
    ]


def run(model: ort.InferenceSession, inputs: dict[str, Array]) -> dict[str, Array]:
    if "batch_size" in {item.name for item in model.get_inputs()}:
        inputs = inputs | {"batch_size": np.array(1, np.int64)}
    names = [item.name for item in model.get_outputs()]
    return dict(zip(names, model.run(names, inputs), strict=True))


def with_batch(coords: Array) -> Array:
    return np.concatenate([np.zeros((len(coords), 1), np.int32), coords], axis=1)


def assert_same_bytes(got: Array, expected: Array) -> None:
    assert got.dtype == expected.dtype and got.shape == expected.shape
    assert got.tobytes() == expected.tobytes()


def test_labels_of_a_scan_equal_the_sessions_bit_for_bit(
    stub: pb_grpc.VoxelInferenceStub, models: Path, sites: tuple[Array, Array]
) -> None:
    coords, features = sites
    assert len(coords) > 40_000
    expected = run(session(models, "unet"), {"coords": with_batch(coords), "features": features})
    frames = [voxel_frame(f"{i}", coords, features) for i in range(3)]
    half = len(coords) // 2
    frames.insert(1, voxel_frame("half", coords[:half], features[:half]))
    answers = stream(stub, "unet", frames)
    assert len(answers[1]["label"]) == half
    for answer in (answers[0], answers[2], answers[3]):
        assert set(answer) == {"label", "score"}
        for name, value in answer.items():
            assert_same_bytes(value, expected[name])


def test_points_get_one_answer_each(
    stub: pb_grpc.VoxelInferenceStub, models: Path, points: Array
) -> None:
    inputs = {"points": points, "point_batch": np.zeros(len(points), np.int32)}
    expected = run(session(models, "unet_points"), inputs)
    payload = pb.PointCloud(
        num_points=len(points), num_fields=4, dtype=pb.FLOAT32, points=points.tobytes()
    )
    (answer,) = stream(stub, "unet_points", [pb.Frame(frame_id="p", points=payload)])
    info = stub.GetModel(pb.GetModelRequest(name="unet_points"))
    assert info.input_kind == "points"
    per_point = [o.name for o in info.outputs if o.meaning == "per_point"]
    assert per_point
    for name in per_point:
        assert len(answer[name]) == len(points)
        assert_same_bytes(answer[name], expected[name])


def test_a_birds_eye_view_map_comes_without_its_batch_axis(
    stub: pb_grpc.VoxelInferenceStub, models: Path, sites: tuple[Array, Array]
) -> None:
    coords, features = sites
    inputs = {"coords": with_batch(coords), "features": features}
    expected = run(session(models, "backbone"), inputs)
    (answer,) = stream(stub, "backbone", [voxel_frame("map", coords, features)])
    described = stub.GetModel(pb.GetModelRequest(name="backbone")).outputs
    maps = [o.name for o in described if o.meaning in ("dense", "per_frame")]
    assert maps
    for name in maps:
        assert_same_bytes(answer[name], expected[name][0])
