# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Synthetic frames, so that a model's first runs are not a robot's."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from voxgate_ops.metadata import ModelMetadata, voxel_grid_shape
from voxgate_server.codec import DecodedFrame, FrameSpec

_FLATNESS = 8  # a scan is mostly ground: the block's first axis is that much thinner


def synthetic_frame(spec: FrameSpec, metadata: ModelMetadata, sites: int) -> DecodedFrame:
    """A frame of `sites` sites (points, where the model takes them), fewer if the grid is smaller.

    They fill a flat block in the middle of the grid, so that they have neighbours as a scan's
    sites have; features are even in [0, 1). The same arguments give the same frame.
    """
    random = np.random.default_rng(sites)
    if metadata.point_range is None or metadata.voxel_size is None or spec.input_kind != "points":
        block = _block(spec.spatial_shape, sites)
        coords = np.zeros((len(block), 1 + block.shape[1]), np.int32)
        coords[:, 1:] = block
        features = random.random((len(block), spec.num_features), np.float32)
        inputs = {"coords": coords, "features": features.astype(spec.features_dtype, copy=False)}
        return DecodedFrame(inputs, len(block), None)
    block = _block(voxel_grid_shape(metadata.point_range, metadata.voxel_size), sites)
    axes = block.shape[1]
    points = random.random((len(block), spec.num_features), np.float32)
    size = np.asarray(metadata.voxel_size)
    points[:, :axes] = np.asarray(metadata.point_range[:axes]) + (block[:, ::-1] + 0.5) * size
    inputs = {
        "points": points.astype(spec.features_dtype, copy=False),
        "point_batch": np.zeros(len(points), np.int32),
    }
    return DecodedFrame(inputs, len(points), None)


def _block(grid: list[int] | tuple[int, ...], count: int) -> NDArray[np.int64]:
    count = min(count, math.prod(grid))
    sides = [1] * len(grid)
    while math.prod(sides) < count:
        growing = [axis for axis, size in enumerate(grid) if sides[axis] < size]
        weights = {axis: sides[axis] * (_FLATNESS if axis == 0 else 1) for axis in growing}
        axis = min(growing, key=lambda one: weights[one])
        sides[axis] = min(2 * sides[axis], grid[axis])
    cells: NDArray[np.int64] = np.stack(np.unravel_index(np.arange(count), sides), axis=1)
    return cells + (np.asarray(grid, np.int64) - np.asarray(sides, np.int64)) // 2
