# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""A real scan through networks exported in 16 bits: close to float32, and the server's answers are
the session's bits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from numpy.typing import NDArray
from tests.end_to_end.test_service import assert_same_bytes, run, stream, voxel_frame, with_batch
from tests.server.test_commands import serving

from voxgate_ops import _native
from voxgate_ops.session import open_session
from voxgate_protos import voxel_inference_pb2 as pb
from voxgate_protos import voxel_inference_pb2_grpc as pb_grpc
from voxgate_server.engine import Engine, EngineOptions

pytest.importorskip("torch", reason="the networks are exported here")

Array = NDArray[Any]
# A part of the scan: 20 m ahead of the sensor.
POINT_RANGE = (0.0, -10.0, -3.0, 20.0, 10.0, 1.0)
VOXEL_SIZE = (0.1, 0.1, 0.1)
SPATIAL_SHAPE = (41, 200, 200)
# Each in float32 and in one of the two types; other tests have the rest.
NETWORKS = {
    "backbone": ("voxel_backbone8x", False, "bf16"),
    "unet_points": ("sparse_unet", True, "fp16"),
}
every_network = pytest.mark.parametrize("network", NETWORKS)
# Of an output's largest magnitude; scores of seeded weights have a few that are further.
CLOSE = {"fp16": 5e-3, "bf16": 5e-2}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from voxgate_ops.export.by_name import ExportOptions, run_export

    folder = tmp_path_factory.mktemp("exported")
    for name, (network, points, low) in NETWORKS.items():
        for precision in ("fp32", low):
            options = ExportOptions(
                network,
                folder / f"{name}_{precision}" / "1" / "model.onnx",
                points=points,
                point_range=POINT_RANGE,
                voxel_size=VOXEL_SIZE,
                spatial_shape=SPATIAL_SHAPE,
                precision=precision,
            )
            run_export(options, lambda _: None)
    return folder


@pytest.fixture(scope="module")
def stub(models: Path) -> Iterator[pb_grpc.VoxelInferenceStub]:
    with serving("--models", str(models), "--threads", "2") as (_, target):
        channel = grpc.insecure_channel(target, [("grpc.max_receive_message_length", -1)])
        yield pb_grpc.VoxelInferenceStub(channel)
        channel.close()


@pytest.fixture(scope="module")
def points(data_file: Callable[[str], Path]) -> Array:
    return np.fromfile(data_file("kitti_000000_full.bin"), np.float32).reshape(-1, 4)


@pytest.fixture(scope="module")
def sites(points: Array) -> tuple[Array, Array]:
    batch = np.zeros(len(points), np.int32)
    coords, features, _ = _native.voxelize(points, batch, list(POINT_RANGE), list(VOXEL_SIZE))
    return np.ascontiguousarray(coords[:, 1:]), features


def answers(folder: Path, name: str, points: Array, sites: tuple[Array, Array]) -> dict[str, Array]:
    session = open_session(folder / name / "1" / "model.onnx", device="cpu", threads=2)
    if name.startswith("unet_points"):
        return run(session, {"points": points, "point_batch": np.zeros(len(points), np.int32)})
    return run(session, {"coords": with_batch(sites[0]), "features": sites[1]})


@every_network
def test_a_scan_is_close_to_float32_and_served_bit_for_bit(
    stub: pb_grpc.VoxelInferenceStub,
    models: Path,
    points: Array,
    sites: tuple[Array, Array],
    network: str,
) -> None:
    precision = NETWORKS[network][2]
    name = f"{network}_{precision}"
    found = answers(models, name, points, sites)
    wanted = answers(models, f"{network}_fp32", points, sites)
    for output, value in wanted.items():
        far = found[output] != value
        if value.dtype.kind == "f":
            far = np.abs(found[output] - value) > CLOSE[precision] * np.abs(value).max()
        assert np.count_nonzero(far) <= 0.02 * value.size
    if network == "backbone":
        frame = voxel_frame("scan", *sites)
    else:
        cloud = pb.PointCloud(
            num_points=len(points), num_fields=4, dtype=pb.FLOAT32, points=points.tobytes()
        )
        frame = pb.Frame(frame_id="scan", points=cloud)
    (answer,) = stream(stub, name, [frame])
    for output, value in answer.items():
        assert_same_bytes(value, found[output].reshape(value.shape))


@every_network
def test_files_are_half_as_large(models: Path, network: str) -> None:
    sizes = [
        (models / f"{network}_{precision}" / "1" / "model.onnx").stat().st_size
        for precision in (NETWORKS[network][2], "fp32")
    ]
    assert 0.45 < sizes[0] / sizes[1] < 0.55


@every_network
def test_frames_may_share_a_batch(models: Path, network: str) -> None:
    precision = NETWORKS[network][2]
    # The warm-up compares the bits of a frame alone and in a batch.
    engine = Engine.load(
        models / f"{network}_{precision}" / "1" / "model.onnx",
        EngineOptions(threads=1, device="cpu"),
    )
    try:
        engine.warm_up()
        assert engine.batchable
        assert engine.metadata.precision == precision
    finally:
        engine.close()
