# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Whole exported networks on CUDA kernels, beside the same file on the CPU."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from voxgate_ops import models
from voxgate_ops.export import Voxelizer, export_onnx
from voxgate_ops.operator_times import OperatorTime, operator_times
from voxgate_ops.session import LIBRARY_VARIABLE, open_session

Array = NDArray[Any]
Feeds = dict[str, Array]
SHAPE = [41, 24, 32]
# 41 x 24 x 32, as z, y, x.
VOXELIZER = Voxelizer(point_range=[0.0, -6.0, -2.0, 16.0, 6.0, 2.1], voxel_size=[0.5, 0.5, 0.1])


def sites(count: int, frames: int, seed: int) -> Feeds:
    """Sites in any order, in a window small enough that they touch."""
    random = np.random.default_rng(seed)
    window = (8, 10, 10)
    cells = random.choice(frames * int(np.prod(window)), count, replace=False)
    batch, cell = np.divmod(cells, int(np.prod(window)))
    z, y, x = np.unravel_index(cell, window)
    return {
        "coords": np.stack([batch, z + 15, y, x + 22], axis=1).astype(np.int32),
        "features": random.standard_normal((count, 4), dtype=np.float32),
        "batch_size": np.array(frames),
    }


def cloud(count: int, frames: int, seed: int) -> Feeds:
    random = np.random.default_rng(seed)
    points = random.uniform([0, -6, -0.5, 0], [4, -2, 0.5, 1], (count, 4)).astype(np.float32)
    points[::17, 0] = np.nan
    return {
        "points": points,
        "point_batch": np.sort(random.integers(0, frames, count, dtype=np.int32)),
        "batch_size": np.array(frames),
    }


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Exports a network once, by name, precision and kind of input."""
    folder = tmp_path_factory.mktemp("networks")

    def exported(name: str, precision: str = "fp32", voxelizer: Voxelizer | None = None) -> Path:
        path = folder / f"{name}-{precision}-{'voxels' if voxelizer is None else 'points'}.onnx"
        if not path.exists():
            network = models.MODELS[name].build(num_features=4, seed=0)
            export_onnx(
                network,
                path,
                spatial_shape=SHAPE,
                num_features=4,
                voxelizer=voxelizer,
                seed=1,  # of the sample that the export compares on
                precision=precision,
            )
        return path

    return exported


def run(session: ort.InferenceSession, feeds: Feeds) -> dict[str, Array]:
    wanted = {value.name for value in session.get_inputs()}
    names = [value.name for value in session.get_outputs()]
    given = {name: value for name, value in feeds.items() if name in wanted}
    return dict(zip(names, session.run(names, given), strict=True))


def expect_same(found: dict[str, Array], wanted: dict[str, Array], limit: float) -> None:
    """Integers equal, but for a class in 200; floats within `limit` of the largest."""
    assert found.keys() == wanted.keys()
    for name, want in wanted.items():
        got = found[name]
        assert (got.dtype, got.shape) == (want.dtype, want.shape), name
        if not want.size:
            continue
        if want.dtype.kind == "f":
            assert np.abs(got - want).max() <= limit * np.abs(want).max(), name
        elif name == "class" or want.dtype == np.int64:
            assert np.mean(got != want) <= 0.005, name
        else:
            np.testing.assert_array_equal(got, want, err_msg=name)


@pytest.fixture
def emulate(
    emulated_library: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., ort.InferenceSession]:
    """Opens a model on the emulator; so are all that the test opens afterwards."""

    def opened(path: Path, **options: Any) -> ort.InferenceSession:
        monkeypatch.setenv(LIBRARY_VARIABLE, str(emulated_library))
        return open_session(path, device="cpu", **options)

    return opened


@pytest.mark.parametrize("name", ["voxel_backbone8x", "sparse_unet"])
@pytest.mark.parametrize("points", [False, True], ids=["voxels", "points"])
def test_a_network_is_the_cpus(name, points, model, emulate):
    path = model(name, voxelizer=VOXELIZER if points else None)
    on_cpu, on_cuda = open_session(path, device="cpu"), emulate(path)
    for count, frames in [(0, 1), (1, 1), (19, 2), (300, 3)]:
        feeds = (cloud if points else sites)(count, frames, seed=count)
        expect_same(run(on_cuda, feeds), run(on_cpu, feeds), 1e-5)


@pytest.mark.parametrize(("precision", "limit"), [("fp16", 2e-2), ("bf16", 8e-2)])
def test_a_network_of_16_bit_floats_is_near_the_cpus(precision, limit, model, emulate):
    path = model("voxel_backbone8x", precision)
    on_cpu, on_cuda = open_session(path, device="cpu"), emulate(path)
    for count, frames in [(0, 1), (19, 2), (300, 3)]:
        feeds = sites(count, frames, seed=count)
        expect_same(run(on_cuda, feeds), run(on_cpu, feeds), limit)


def test_sessions_and_runs_at_once_do_not_mix(model, emulate):
    sessions = [emulate(model("voxel_backbone8x")) for _ in range(2)]
    frames = [sites(count, 2, seed=count) for count in (19, 50, 80)]
    alone = [run(sessions[0], feeds) for feeds in frames]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        jobs = [
            (pool.submit(run, session, feeds), wanted)
            for session in sessions
            for feeds, wanted in zip(frames, alone, strict=True)
        ]
        for job, wanted in jobs:
            found = job.result()
            for name, array in wanted.items():
                np.testing.assert_array_equal(found[name], array, err_msg=name)


def test_calls_are_counted_and_timed_on_their_stream(model, emulate):
    """The emulator says of a call's end only when asked again, as a GPU that is behind."""
    session = emulate(model("voxel_backbone8x"), config={"voxgate.model": "emulated-times"})

    def rows() -> list[OperatorTime]:
        return [row for row in operator_times() if row.model == "emulated-times"]

    fresh = {row.operator: row.calls for row in rows()}
    assert fresh["SparseConv"] == 0
    feeds = sites(19, 1, seed=1)
    run(session, feeds)
    once = {row.operator: row.calls for row in rows()}
    for _ in range(2):
        run(session, feeds)
    rows()
    after = rows()
    assert {row.device for row in after} == {"cuda"}
    assert {row.operator: row.calls for row in after} == {
        name: 3 * calls for name, calls in once.items()
    }
    assert all(0 < row.seconds < 60 for row in after)
    assert rows() == after  # nothing is counted twice
