# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Same bytes for every thread count, on every run, and for a frame alone or in a batch."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.ops.checks.scenes import sites_of

from voxgate_ops import _native

Array = NDArray[Any]
SHAPE = [9, 40, 40]
FRAMES = 3
RANGE = [0.0, 0.0, 0.0, 40.0, 40.0, 9.0]
RULEBOOK = (SHAPE, [3, 3, 3], [2, 2, 2], [1, 1, 1], [1, 1, 1])


@pytest.fixture(scope="module")
def batch() -> Array:
    """About 8,600 sites in three frames, the second one sparser."""
    rng = np.random.default_rng(7)
    density = np.array([0.3, 0.02, 0.28])[:, None, None, None]
    return sites_of(rng.random([FRAMES, *SHAPE]) < density)


def run_network(coords: Array, threads: int) -> dict[str, Array]:
    """Every operator once, on values that depend only on the site: outputs by name."""

    def values(sites: Array, channels: int) -> Array:
        phase = sites[:, 1:].astype(np.float64) @ [0.7, 1.3, 2.9]
        return np.sin(phase[:, None] * np.arange(1, channels + 1)).astype(np.float32)

    rng = np.random.default_rng(3)
    weights = [rng.standard_normal((27, a, b)).astype(np.float32) for a, b in ((8, 33), (33, 8))]
    kernel, ones = [3, 3, 3], [1, 1, 1]
    frames = int(coords[:, 0].max()) + 1
    shuffled = np.ascontiguousarray(rng.permutation(coords))
    out = dict(zip(("coords", "order", "rank"), _native.sort_sites(shuffled, SHAPE), strict=True))
    near = _native.submanifold_rulebook(coords, SHAPE, kernel, ones, threads=threads)
    down, pairs = _native.sparse_rulebook(coords, *RULEBOOK, threads=threads)
    back = _native.inverse_rulebook(pairs, len(coords), threads=threads)
    grown, grown_pairs = _native.sparse_rulebook(down, [5, 20, 20], *RULEBOOK[1:], True)
    x = values(coords, 8)
    y = _native.sparse_conv(x, near, weights[0], activation="gelu", threads=threads)
    z = _native.sparse_conv(y, pairs, weights[1], threads=threads)
    out |= {"near": near, "down": down, "pairs": pairs, "back": back, "y": y, "z": z}
    out |= {"grown": grown, "grown_pairs": grown_pairs}
    out["restored"] = _native.sparse_conv(z, back, weights[0], threads=threads)
    for mode in ("max", "avg", "sum"):
        out[f"pool {mode}"] = _native.sparse_pool(y, pairs, mode, threads=threads)
        out[f"global {mode}"] = _native.sparse_global_pool(y, coords, frames, mode, threads=threads)
    dense = _native.sparse_to_dense(down, z, frames, [5, 20, 20], threads=threads)
    out["dense"] = dense
    out["again"] = _native.dense_to_sparse(dense, 0.1, threads=threads)[1]
    half = np.ascontiguousarray(coords[::2])
    out["union"] = _native.sparse_union(coords, x, half, values(half, 8), "sum", threads=threads)[1]
    points = coords[:, [3, 2, 1]].astype(np.float32) * np.float32(0.77)
    points = np.concatenate([points, x], axis=1)
    frame = np.ascontiguousarray(coords[:, 0])
    out["voxels"] = _native.voxelize(points, frame, RANGE, [1.5] * 3, threads=threads)[1]
    out["interpolated"] = _native.sparse_interpolate(
        y, coords, points, frame, RANGE, [1.0] * 3, threads=threads
    )
    row = _native.find_sites(coords, half, threads=threads)
    out["found"] = row
    out["gathered"] = _native.gather_rows(y, row, threads=threads)
    cells = (np.arange(len(coords)) % 97).astype(np.int32)
    out["reduced"] = _native.reduce_rows(y, cells, 97, "mean", threads=threads)
    boxes = np.concatenate([points[:300, :3], np.abs(x[:300, :4]) * 4], axis=1)
    out["kept"] = _native.rotated_nms(
        np.ascontiguousarray(boxes), x[:300, 0].copy(), frame[:300], 0.3, -2.0, threads=threads
    )
    return out


def assert_same_bytes(a: dict[str, Array], b: dict[str, Array]) -> None:
    different = [name for name in a if a[name].tobytes() != b[name].tobytes()]
    assert different == []


@pytest.mark.parametrize("threads", [1, 2, 4, 0])
def test_thread_counts_and_runs(batch: Array, threads: int) -> None:
    assert_same_bytes(run_network(batch, threads), run_network(batch, 1))


def test_calls_at_once(batch: Array) -> None:
    """Eight Python threads share one pool, and the lock of no interpreter."""
    with ThreadPoolExecutor(8) as executor:
        results = list(executor.map(lambda _: run_network(batch, 2), range(8)))
    expected = run_network(batch, 1)
    for result in results:
        assert_same_bytes(result, expected)


@pytest.mark.parametrize("frame", range(FRAMES))
def test_frame_alone_and_in_a_batch(batch: Array, frame: int) -> None:
    alone_coords = np.ascontiguousarray(batch[batch[:, 0] == frame])
    inside = batch[:, 0] == frame
    alone_coords[:, 0] = 0
    together, alone = run_network(batch, 2), run_network(alone_coords, 2)
    down = together["down"][:, 0] == frame
    for name in ("y", "restored", "interpolated"):
        assert together[name][inside].tobytes() == alone[name].tobytes(), name
    for name in ("z", "pool max", "pool avg", "pool sum"):
        assert together[name][down].tobytes() == alone[name].tobytes(), name
    for name in ("global max", "global avg", "global sum", "dense"):
        assert together[name][frame].tobytes() == alone[name][0].tobytes(), name


def _sum_in_child(queue: Any, coords: Array) -> None:
    queue.put(int(_native.submanifold_rulebook(coords, SHAPE, [3] * 3, [1] * 3, threads=2).sum()))


def test_forked_child_makes_its_own_threads(batch: Array) -> None:
    """The parent's pool has threads the child has not; waiting for them would never end."""
    expected = int(_native.submanifold_rulebook(batch, SHAPE, [3] * 3, [1] * 3, threads=2).sum())
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_sum_in_child, args=(queue, batch))
    child.start()
    try:
        assert queue.get(timeout=60) == expected
    finally:
        child.kill()
        child.join()
