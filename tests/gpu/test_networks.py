# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Whole networks on the GPU, against the CPU and against themselves in float64.

The limits are of the largest value of an output. A class is compared by the share of sites that
have another one: between two scores that are almost the same, rounding decides.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from tests.gpu.conftest import MODEL_ENTRY, Gpu
from tests.gpu.exported import NETWORKS, Array, Exported, export, run, sites

from voxgate_ops.export import Voxelizer, export_onnx
from voxgate_ops.models import MODELS
from voxgate_ops.session import open_session

pytestmark = pytest.mark.gpu


@dataclass(frozen=True)
class Limits:
    """Of values, relative to the largest, and of the share of other classes."""

    values: float
    classes: float


# A dozen layers, each of which sums in another order than the CPU's. bfloat16 has 8 bits: what one
# layer rounds off, the next ones carry on.
FLOAT32 = Limits(1e-4, 0.002)
TF32 = Limits(1e-2, 0.05)
LOW = {"fp16": Limits(2e-2, 0.1), "bf16": Limits(8e-2, 0.3)}
SIZES = [(0, 1), (1, 1), (19, 2), (989, 3), (20_000, 2)]


@pytest.fixture(scope="module")
def exported(gpu: Gpu, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Exported]:
    folder = tmp_path_factory.mktemp("networks")
    made: dict[tuple[str, str], Exported] = {}

    def one(name: str, precision: str = "fp32") -> Exported:
        if (name, precision) not in made:
            made[name, precision] = export(folder, name, precision)
        return made[name, precision]

    return one


def assert_close(got: dict[str, Array], wanted: dict[str, Array], limits: Limits) -> None:
    assert got.keys() == wanted.keys()
    for name, want in wanted.items():
        assert got[name].shape == want.shape, name
        if not want.size:
            continue
        if want.dtype.kind == "f":
            largest = float(np.abs(want).max())
            assert np.abs(got[name] - want).max() <= limits.values * max(largest, 1e-6), name
        else:
            assert np.mean(got[name] != want) <= limits.classes, name


@pytest.mark.parametrize("name", NETWORKS)
def test_float32_equals_the_cpu(gpu: Gpu, exported, name: str) -> None:
    network = exported(name)
    on_gpu, on_cpu = gpu.open(network.path), open_session(network.path, device="cpu")
    for count, frames in SIZES:
        given = (*sites(count, count, frames), frames)
        assert_close(run(on_gpu, *given), run(on_cpu, *given), FLOAT32)


@pytest.mark.parametrize("name", NETWORKS)
def test_tf32_is_close_to_float64(gpu: Gpu, exported, name: str) -> None:
    network = exported(name)
    session = gpu.open(network.path, use_tf32=True)
    given = (*sites(2000, 1, 2), 2)
    assert_close(run(session, *given), network.float64(*given), TF32)


@pytest.mark.parametrize("precision", LOW)
@pytest.mark.parametrize("name", NETWORKS)
def test_16_bit_floats_are_close_to_float64(gpu: Gpu, exported, name: str, precision: str) -> None:
    network = exported(name, precision)
    session = gpu.open(network.path)
    for count, frames in SIZES[:-1]:
        given = (*sites(count, count, frames), frames)
        assert_close(run(session, *given), network.float64(*given), LOW[precision])


@pytest.mark.parametrize("name", NETWORKS)
def test_no_operator_of_ours_runs_on_the_cpu(gpu: Gpu, exported, name: str) -> None:
    entry = f"gpu-networks-{name}"
    session = gpu.open(exported(name).path, config={MODEL_ENTRY: entry})
    run(session, *sites(500, 0))
    calls = gpu.calls(entry)
    assert {device for _, device in calls} == {"cuda"}
    assert {"SortSites", "SubmanifoldRulebook", "SparseRulebook", "SparseConv"} <= {
        operator for operator, _ in calls
    }


def test_a_real_scan_through_a_model_of_points(
    gpu: Gpu, tmp_path: Path, data_file: Callable[[str], Path]
) -> None:
    points = np.fromfile(data_file("kitti_000000_full.bin"), dtype=np.float32).reshape(-1, 4)
    voxelizer = Voxelizer([0.0, -40.0, -3.0, 70.4, 40.0, 1.0], [0.05, 0.05, 0.1])
    path = tmp_path / "model.onnx"
    network = MODELS["sparse_unet"].build(num_features=4, seed=0)
    shape = [41, 1600, 1408]
    export_onnx(network, path, spatial_shape=shape, num_features=4, voxelizer=voxelizer)
    feeds = {"points": points, "point_batch": np.zeros(len(points), np.int32)}
    on_gpu, on_cpu = gpu.open(path), open_session(path, device="cpu")
    names = [value.name for value in on_gpu.get_outputs()]
    got, wanted = (dict(zip(names, s.run(names, feeds), strict=True)) for s in (on_gpu, on_cpu))
    assert_close(got, wanted, FLOAT32)


def test_bad_sites_are_refused_and_the_session_goes_on(gpu: Gpu, exported) -> None:
    session = gpu.open(exported("sparse_unet").path)
    coords, features = sites(100, 5)
    before = run(session, coords, features)
    for row, said in (([0, 41, 0, 0], "41"), ([0, -1, 0, 0], "-1"), (coords[3], "")):
        bad = coords.copy()
        bad[7] = row
        with pytest.raises(Exception, match=f"SortSites.*{said}"):
            run(session, bad, features)
    for name, array in run(session, coords, features).items():
        np.testing.assert_array_equal(array, before[name])
