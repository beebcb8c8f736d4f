# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Sites that the cases run on: a real scan where there is one, else a simulated street."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

# SECOND's grid on KITTI, x y z: https://github.com/traveller59/second.pytorch (car.fhd.config).
POINT_RANGE = (0.0, -40.0, -3.0, 70.4, 40.0, 1.0)
VOXEL_SIZE = (0.05, 0.05, 0.1)
SPATIAL_SHAPE = [41, 1600, 1408]
KITTI_SCAN = "kitti_000000_full.bin"


@dataclass(frozen=True)
class Scan:
    """Voxelized points in canonical order.

    coords int32 [N, 4] (batch, z, y, x), features float32 [N, 4] (mean x, y, z, intensity).
    """

    name: str
    coords: NDArray[np.int32]
    features: NDArray[np.float32]
    points: NDArray[np.float32]

    @property
    def num_sites(self) -> int:
        return int(self.coords.shape[0])


def data_directory(root: Path) -> Path:
    """Folder of real scans: VOXGATE_DATA, else shared/data beside the checkout."""
    return Path(os.environ.get("VOXGATE_DATA", root.parent / "shared" / "data"))


def voxelize(points: NDArray[np.float32]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Mean features per voxel of SECOND's grid, float64 arithmetic, canonical order.

    Float64 gives the 41,264 sites of kitti_000000_full.bin that the targets speak of; float32
    moves points on voxel borders and gives 41,281.
    """
    low, high = np.array(POINT_RANGE[:3]), np.array(POINT_RANGE[3:])
    size = np.array(VOXEL_SIZE)
    counts = np.round((high - low) / size).astype(np.int64)
    index = np.floor((points[:, :3].astype(np.float64) - low) / size)
    inside = np.all((index >= 0) & (index < counts), axis=1)
    x, y, z = index[inside].astype(np.int64).T
    depth, height, width = SPATIAL_SHAPE
    keys, voxel = np.unique((z * height + y) * width + x, return_inverse=True)
    sums = np.zeros((len(keys), points.shape[1]))
    np.add.at(sums, voxel, points[inside])
    features = sums / np.bincount(voxel, minlength=len(keys))[:, None]
    columns = [
        np.zeros_like(keys),
        keys // (height * width),
        keys // width % height,
        keys % width,
    ]
    return np.stack(columns, axis=1).astype(np.int32), features.astype(np.float32)


def simulated_points(seed: int = 0, beams: int = 64, columns: int = 1800) -> NDArray[np.float32]:
    """A plain street seen by a spinning sensor: float32 [P, 4] x, y, z, intensity.

    Ground plane, two building fronts and boxes for cars; enough for site statistics like a real
    sweep's, and independent of every other package so that the cases run anywhere.
    """
    generator = np.random.default_rng(seed)
    azimuth = np.linspace(-np.pi, np.pi, columns, endpoint=False)[None, :]
    elevation = np.deg2rad(np.linspace(-24.8, 2.0, beams))[:, None]
    direction = np.stack(
        np.broadcast_arrays(
            np.cos(elevation) * np.cos(azimuth),
            np.cos(elevation) * np.sin(azimuth),
            np.sin(elevation),
        ),
        axis=-1,
    ).reshape(-1, 3)
    distance = np.full(len(direction), 80.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        ground = -1.73 / direction[:, 2]
        distance = np.where((ground > 0) & (ground < distance), ground, distance)
        for front in (12.0, -14.0):
            wall = front / direction[:, 1]
            distance = np.where((wall > 0) & (wall < distance), wall, distance)
        for center in generator.uniform((5, -8), (60, 8), (24, 2)):
            low = np.array([center[0] - 2.1, center[1] - 0.9, -1.73])
            high = np.array([center[0] + 2.1, center[1] + 0.9, -0.2])
            near = np.minimum(low / direction, high / direction).max(axis=1)
            far = np.maximum(low / direction, high / direction).min(axis=1)
            distance = np.where((near > 0) & (near <= far) & (near < distance), near, distance)
    hit = distance < 79.0
    noisy = distance[hit] + generator.normal(0, 0.02, hit.sum())
    intensity = generator.uniform(0, 1, hit.sum())[:, None]
    return np.concatenate([direction[hit] * noisy[:, None], intensity], axis=1).astype(np.float32)


def load_scan(root: Path) -> Scan:
    """The KITTI sweep the targets name, or the simulated street when it is absent."""
    path = data_directory(root) / KITTI_SCAN
    if path.exists():
        name, points = KITTI_SCAN, np.fromfile(path, np.float32).reshape(-1, 4)
    else:
        name, points = f"simulated street ({KITTI_SCAN} not found)", simulated_points()
    coords, features = voxelize(points)
    return Scan(name, coords, features, points)


def tile_batch(scan: Scan, copies: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The scan repeated as `copies` frames of one batch: coords and features, canonical."""
    coords = np.tile(scan.coords, (copies, 1))
    coords[:, 0] = np.repeat(np.arange(copies, dtype=np.int32), scan.num_sites)
    return coords, np.tile(scan.features, (copies, 1))


def tile_grid(scan: Scan, copies: int) -> tuple[NDArray[np.int32], list[int]]:
    """The scan repeated `copies` times along y: canonical coords of one frame, and its grid."""
    depth, height, width = SPATIAL_SHAPE
    coords = np.tile(scan.coords, (copies, 1))
    coords[:, 2] += np.repeat(np.arange(copies, dtype=np.int32), scan.num_sites) * height
    return coords[np.lexsort(coords.T[::-1])].copy(), [depth, height * copies, width]
