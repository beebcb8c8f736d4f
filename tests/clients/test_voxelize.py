# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Client-side voxelization against a loop over points, and against the native library's."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from voxgate_client import VoxelGrid, read_points, voxelize
from voxgate_ops import _native

GRID = VoxelGrid((-1.0, -2.0, -0.5, 1.0, 2.0, 1.0), (0.25, 0.5, 0.1))
KITTI = VoxelGrid((0.0, -40.0, -3.0, 70.4, 40.0, 1.0), (0.05, 0.05, 0.1))
UNET = VoxelGrid((-51.2, -51.2, -3.0, 51.2, 51.2, 5.0), (0.1, 0.1, 0.1))


def by_hand(points: np.ndarray, grid: VoxelGrid) -> tuple[dict[tuple[int, ...], list[int]], list]:
    members: dict[tuple[int, ...], list[int]] = {}
    axes = len(grid.voxel_size)
    for row, point in enumerate(points):
        index = []
        for axis in range(axes):
            low, size = np.float32(grid.point_range[axis]), np.float32(grid.voxel_size[axis])
            quotient = (point[axis] - low) / size
            index.append(math.floor(quotient) if math.isfinite(quotient) else -1)
        site = tuple(reversed(index))
        if all(0 <= i < n for i, n in zip(site, grid.shape, strict=True)):
            members.setdefault(site, []).append(row)
    return members, sorted(members)


def check(points: np.ndarray, grid: VoxelGrid) -> None:
    coords, features, point_voxel = voxelize(points, grid)
    members, sites = by_hand(points, grid)
    assert [tuple(row) for row in coords.tolist()] == sites
    expected = np.full(len(points), -1)
    for row, site in enumerate(sites):
        expected[members[site]] = row
        mean = points[members[site]].astype(np.float64).mean(0)
        np.testing.assert_allclose(features[row], mean, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(point_voxel, expected)
    assert coords.dtype == np.int32 and features.dtype == np.float32


@settings(max_examples=200)
@given(
    points=hnp.arrays(
        np.float32,
        st.tuples(st.integers(0, 40), st.integers(3, 6)),
        elements=st.one_of(
            st.floats(-3, 3, width=32), st.sampled_from([-1.0, 1.0, -2.0, 0.25, -0.5, 0.5, 2.0])
        ),
    )
)
def test_equals_a_loop_over_points(points: np.ndarray) -> None:
    check(points, GRID)


@pytest.mark.parametrize("num", [0, 1, 19, 989])
@pytest.mark.parametrize("fields", [3, 4, 7])
def test_sizes(num: int, fields: int) -> None:
    check(np.random.default_rng(num).normal(0, 1, (num, fields)).astype(np.float32), GRID)


def test_non_finite_points_are_outside() -> None:
    points = np.zeros((5, 4), np.float32)
    points[0, 0], points[1, 1], points[2, 2] = np.nan, np.inf, -np.inf
    assert voxelize(points, GRID)[2].tolist() == [-1, -1, -1, 0, 0]


def test_upper_border_is_outside_and_lower_inside() -> None:
    points = np.float32([[-1, -2, -0.5], [1, 0, 0], [0, 2, 0], [0, 0, 1]])
    coords, _, point_voxel = voxelize(points, GRID)
    assert coords.tolist() == [[0, 0, 0]] and point_voxel.tolist() == [0, -1, -1, -1]


def test_shapes_are_in_coords_order() -> None:
    assert GRID.shape == (15, 8, 8)
    assert KITTI.shape == (40, 1600, 1408)
    assert UNET.shape == (80, 1024, 1024)


@pytest.mark.parametrize(
    ("point_range", "voxel_size", "message"),
    [
        ((0, 0, 0, 1, 1), (1, 1, 1), "point_range has 5 values and voxel_size 3"),
        ((), (), "expected 2 D and D with D from 1 to 4"),
        ((0, 0, 0, 1, 1, 0), (1, 1, 1), "expected lo < hi"),
        ((0, 0, 0, 1, 1, 1), (1, 0, 1), "voxel_size > 0"),
        ((0, 0, 0, 1, 1, math.nan), (1, 1, 1), "not finite"),
        ((0, 0, 0, 1, 1, 1e300), (1, 1, 1), "not finite"),
        ((0, 0, 0, 9e9, 9e9, 9e9), (1e-3, 1e-3, 1e-3), r"expected 1 to 2\^63"),
        ((0, 0, 0, 1, 1, 1), (9, 9, 9), "has 0 cells"),
    ],
)
def test_grids_that_are_none(
    point_range: tuple[float, ...], voxel_size: tuple[float, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        VoxelGrid(point_range, voxel_size)


def test_points_of_wrong_shape() -> None:
    with pytest.raises(ValueError, match=r"shape \(3, 2\), expected \[P, F\] with F >= 3"):
        voxelize(np.zeros((3, 2), np.float32), GRID)


@pytest.mark.parametrize("grid", [KITTI, UNET])
def test_equals_the_native_library_on_a_real_scan(
    grid: VoxelGrid, data_file: Callable[[str], Path]
) -> None:
    points = read_points(data_file("kitti_000000_full.bin")).points
    coords, features, point_voxel = voxelize(points, grid)
    frame = np.zeros(len(points), np.int32)
    want = _native.voxelize(points, frame, list(grid.point_range), list(grid.voxel_size))
    np.testing.assert_array_equal(coords, want[0][:, 1:])
    np.testing.assert_array_equal(point_voxel, want[2])
    np.testing.assert_allclose(features, want[1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("cells", [10.5, 2.5, 3.5, 40.0, 1408.0])
def test_the_grid_is_rounded_as_the_operator_rounds_it(cells: float) -> None:
    grid = VoxelGrid((0.0, 0.0, -1.0, 3.0, 4.0, 0.1 * cells - 1.0), (1.0, 1.0, 0.1))
    edge = grid.shape[0]
    for index in (edge - 1, edge):
        point = np.zeros((1, 3), np.float32)
        point[0, 2] = np.float32(-1.0) + np.float32(0.1) * np.float32(index + 0.5)
        coords, _, _ = _native.voxelize(
            point, np.zeros(1, np.int32), list(grid.point_range), list(grid.voxel_size)
        )
        assert len(coords) == len(voxelize(point, grid)[0]) == (index < edge)
