# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""The shipped networks, exported, against eager torch: values, order, batches, empty frames."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import pytest
import torch
from torch import nn

import voxgate_ops.nn as spconv
from voxgate_ops import models
from voxgate_ops.export import Voxelizer, export_onnx
from voxgate_ops.session import open_session

SHAPE = [41, 24, 32]
Array = npt.NDArray[Any]
NAMES = ("voxel_backbone8x", "voxel_res_backbone8x", "sparse_unet")


@dataclass
class Exported:
    name: str
    network: nn.Module
    session: ort.InferenceSession
    operators: Counter[str]

    def run(self, coords: Array, features: Array, batch_size: int = 1) -> list[Array]:
        given = {"coords": coords, "features": features, "batch_size": np.array(batch_size)}
        names = {value.name for value in self.session.get_inputs()}
        found: list[Array] = self.session.run(None, {k: v for k, v in given.items() if k in names})
        return found

    def eager(self, coords: Array, features: Array, batch_size: int = 1) -> list[Array]:
        x = spconv.SparseConvTensor(
            torch.from_numpy(features), torch.from_numpy(coords), SHAPE, batch_size
        )
        with torch.no_grad():
            found = self.network(x)
        return [found[value.name].numpy() for value in self.session.get_outputs()]


@pytest.fixture(scope="module", params=NAMES)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    network = models.MODELS[request.param].build(num_features=4, seed=0)
    path: Path = tmp_path_factory.mktemp(request.param) / "model.onnx"
    export_onnx(network, path, spatial_shape=SHAPE, num_features=4)
    operators = Counter(node.op_type for node in onnx.load(path).graph.node)
    return Exported(request.param, network, open_session(path, threads=2), operators)


def sites(count: int, seed: int, frames: int = 1) -> tuple[Array, Array]:
    """Unique sites in random order, in a window small enough that they touch."""
    random = np.random.default_rng(seed)
    window = (12, 10, 10)
    volume = int(np.prod(window))
    cells = random.choice(frames * volume, count, replace=False)
    batch, cell = np.divmod(cells, volume)
    z, y, x = np.unravel_index(cell, window)
    coords = np.stack([batch, z + 15, y, x + 22], axis=1).astype(np.int32)
    return coords, random.standard_normal((count, 4), dtype=np.float32)


def is_per_site(name: str) -> bool:
    return name == "sparse_unet"


@pytest.mark.parametrize(("count", "frames"), [(1, 1), (19, 1), (600, 1), (989, 3)])
def test_equals_eager(exported: Exported, count: int, frames: int) -> None:
    coords, features = sites(count, count, frames)
    found = exported.run(coords, features, frames)
    expected = exported.eager(coords, features, frames)
    for actual, wanted in zip(found, expected, strict=True):
        assert actual.dtype == wanted.dtype
        assert actual.shape == wanted.shape
        if actual.dtype.kind == "f":
            largest = np.abs(wanted).max()
            assert largest > 1e-3
            assert np.abs(actual - wanted).max() <= 2e-5 * largest
        else:
            assert np.mean(actual != wanted) < 0.005


def test_rows_may_come_in_any_order(exported: Exported) -> None:
    coords, features = sites(500, 7, 2)
    order = np.random.default_rng(0).permutation(500)
    straight = exported.run(coords, features, 2)
    shuffled = exported.run(coords[order], features[order], 2)
    for a, b in zip(straight, shuffled, strict=True):
        np.testing.assert_array_equal(b, a[order] if is_per_site(exported.name) else a)


@pytest.mark.parametrize("count", [1, 2, 350])
def test_a_frame_gives_the_same_bytes_alone_and_in_a_batch(exported: Exported, count: int) -> None:
    coords, features = sites(count, 3)
    others, other_features = sites(700, 4, 2)
    in_batch = coords.copy()
    in_batch[:, 0] = 2
    others[:, 0] = np.where(others[:, 0] == 1, 3, others[:, 0])  # frame 1 is empty
    alone = exported.run(coords, features)
    together = exported.run(
        np.concatenate([others, in_batch]), np.concatenate([other_features, features]), 4
    )
    for a, b in zip(alone, together, strict=True):
        mine = b[len(others) :] if is_per_site(exported.name) else b[2:3]
        assert a.tobytes() == np.ascontiguousarray(mine).tobytes()


def test_no_sites(exported: Exported) -> None:
    coords, features = sites(0, 0)
    for output, array in zip(
        exported.session.get_outputs(), exported.run(coords, features, 3), strict=True
    ):
        if is_per_site(exported.name):
            assert array.shape[0] == 0
        else:
            assert array.shape == (3, *output.shape[1:])
            assert not array.any()


def test_only_fused_convolutions_are_left(exported: Exported) -> None:
    left_over = {"BatchNormalization", "Relu", "Add", "Mul", "Transpose", "MatMul", "Gemm"}
    assert not exported.operators.keys() & left_over
    counts = {
        name: exported.operators[name]
        for name in ("SparseConv", "SubmanifoldRulebook", "SparseRulebook", "InverseRulebook")
    }
    assert (
        list(counts.values())
        == {
            "voxel_backbone8x": [12, 4, 4, 0],
            "voxel_res_backbone8x": [21, 4, 4, 0],
            # The pointwise head has a rulebook of its own.
            "sparse_unet": [19, 5, 3, 3],
        }[exported.name]
    )


def test_bad_sites_are_refused_and_the_session_goes_on(exported: Exported) -> None:
    coords, features = sites(10, 5)
    before = exported.run(coords, features)
    for row, message in (([0, 41, 0, 0], "41"), ([0, -1, 0, 0], "-1"), (coords[3], "")):
        bad = coords.copy()
        bad[7] = row
        with pytest.raises(Exception, match=f"SortSites.*{message}"):
            exported.run(bad, features)
    for a, b in zip(before, exported.run(coords, features), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_real_scan_through_a_model_of_points(
    tmp_path: Path, data_file: Callable[[str], Path]
) -> None:
    points = np.fromfile(data_file("kitti_000000_full.bin"), dtype=np.float32).reshape(-1, 4)
    voxelizer = Voxelizer([0.0, -40.0, -3.0, 70.4, 40.0, 1.0], [0.05, 0.05, 0.1])
    shape = [41, 1600, 1408]
    network = models.sparse_unet()
    path = tmp_path / "model.onnx"
    export_onnx(network, path, spatial_shape=shape, num_features=4, voxelizer=voxelizer)
    frame = np.zeros(len(points), dtype=np.int32)
    label, score = open_session(path, threads=2).run(None, {"points": points, "point_batch": frame})
    coords, features, voxel = voxelizer(torch.from_numpy(points), torch.from_numpy(frame))
    with torch.no_grad():
        found = network(spconv.SparseConvTensor(features, coords, shape, 1))
    kept = voxel.numpy() >= 0
    assert 0.4 < kept.mean() < 0.6  # the grid covers what is in front of the sensor
    assert np.all(label[~kept] == -1)
    assert np.all(score[~kept] == 0)
    rows = voxel.numpy()[kept]
    assert np.mean(label[kept] != found["label"].numpy()[rows]) < 1e-4
    np.testing.assert_allclose(score[kept], found["score"].numpy()[rows], atol=2e-3)
