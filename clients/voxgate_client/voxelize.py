# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Points to sparse voxels on the client, with the semantics of the `Voxelize` operator."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class VoxelGrid:
    """A metric grid.

    Attributes:
        point_range: (lo_x, lo_y, lo_z, hi_x, hi_y, hi_z) in metres.
        voxel_size: (x, y, z) in metres.

    Raises:
        ValueError: sizes disagree, a value is not finite, hi <= lo or voxel_size <= 0.
    """

    point_range: tuple[float, ...]
    voxel_size: tuple[float, ...]

    def __post_init__(self) -> None:
        axes = len(self.voxel_size)
        if not 1 <= axes <= 4 or len(self.point_range) != 2 * axes:
            raise ValueError(
                f"point_range has {len(self.point_range)} values and voxel_size {axes}, "
                "expected 2 D and D with D from 1 to 4"
            )
        with np.errstate(over="ignore"):
            values = np.array(self.point_range + self.voxel_size).astype(np.float32)
        if not np.all(np.isfinite(values)):
            raise ValueError(f"{self} has a value that is not finite")
        low, high, size = values[:axes], values[axes : 2 * axes], values[2 * axes :]
        if np.any(high <= low) or np.any(size <= 0):
            raise ValueError(f"{self}: expected lo < hi and voxel_size > 0 on every axis")
        cells = 1
        for length in self.shape:
            cells *= length
        if not 0 < cells < 1 << 63:
            raise ValueError(f"{self} has {cells} cells, expected 1 to 2^63 - 1")

    @property
    def shape(self) -> tuple[int, ...]:
        """Cells per axis in coords order (z, y, x): round((hi - lo) / voxel_size)."""
        axes = len(self.voxel_size)
        # The operator holds the values as float32; its rounding, half up, starts from those.
        bounds = np.array(self.point_range, np.float32).astype(np.float64).tolist()
        sizes = np.array(self.voxel_size, np.float32).astype(np.float64).tolist()
        return tuple(
            math.floor((bounds[axes + i] - bounds[i]) / sizes[i] + 0.5)
            for i in reversed(range(axes))
        )


def voxelize(
    points: NDArray[np.float32], grid: VoxelGrid
) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.int32]]:
    """Averages the points of each voxel.

    A point's index on an axis is floor((p - lo) / voxel_size) in float32, and the point counts iff
    that lies in the grid; NaN does not. All F columns are averaged, in float64.

    Args:
        points: float32 `[P, F]`; columns 0 to D-1 are x, y, z in metres.
        grid: the model's grid.

    Returns:
        coords: int32 `[N, D]`, axes in z, y, x order, no batch column, in canonical order.
        features: float32 `[N, F]`, the mean of each voxel's points.
        point_voxel: int32 `[P]`, each point's row in coords, -1 for a point outside the grid.

    Raises:
        ValueError: `points` is not `[P, F]` with F >= D.
    """
    axes = len(grid.voxel_size)
    if points.ndim != 2 or points.shape[1] < axes:
        raise ValueError(f"points have shape {points.shape}, expected [P, F] with F >= {axes}")
    keys = _voxel_keys(points, grid)
    inside = np.flatnonzero(keys >= 0)
    unique, inverse = np.unique(keys[inside], return_inverse=True)
    point_voxel = np.full(len(points), -1, np.int32)
    point_voxel[inside] = inverse
    coords = np.empty((len(unique), axes), np.int32)
    rest = unique
    for axis in reversed(range(axes)):
        rest, coords[:, axis] = np.divmod(rest, grid.shape[axis])
    return coords, _mean_rows(points[inside], inverse, len(unique)), point_voxel


def _voxel_keys(points: NDArray[np.float32], grid: VoxelGrid) -> NDArray[np.int64]:
    """int64 `[P]`: a voxel's place in the dense grid, row-major z, y, x; -1 outside."""
    axes = len(grid.voxel_size)
    keys = np.zeros(len(points), np.int64)
    inside = np.ones(len(points), np.bool_)
    for column, size in zip(reversed(range(axes)), grid.shape, strict=True):
        low = np.float32(grid.point_range[column])
        with np.errstate(invalid="ignore", over="ignore"):
            index = np.floor((points[:, column] - low) / np.float32(grid.voxel_size[column]))
            inside &= (index >= 0) & (index < size)
        keys = keys * size + np.where(inside, index, 0).astype(np.int64)
    return np.where(inside, keys, -1)


def _mean_rows(
    rows: NDArray[np.float32], group: NDArray[np.intp], num_groups: int
) -> NDArray[np.float32]:
    means = np.empty((num_groups, rows.shape[1]), np.float32)
    counts = np.bincount(group, minlength=num_groups)
    for column in range(rows.shape[1]):
        sums = np.bincount(group, weights=rows[:, column], minlength=num_groups)
        means[:, column] = sums / counts
    return means


def grid_from_metadata(
    point_range: Sequence[float] | None, voxel_size: Sequence[float] | None
) -> VoxelGrid | None:
    """The grid a model's metadata describes, None when the metadata has none."""
    if point_range is None or voxel_size is None:
        return None
    return VoxelGrid(tuple(map(float, point_range)), tuple(map(float, voxel_size)))
