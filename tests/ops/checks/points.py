# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Voxelization, interpolation and rotated NMS against plain Python."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from tests.ops.checks.dense_oracle import assert_close
from tests.ops.checks.implementations import Implementation
from tests.ops.checks.scenes import Scene, scenes, sweep

Array = NDArray[Any]
Polygon = list[tuple[float, float]]


def random_points(rng: np.random.Generator, axes: int, count: int, far: float) -> Array:
    """Positions on a lattice of 1/16, so that float32 arithmetic on them is exact."""
    points = rng.integers(-8, int(16 * far) + 8, size=(count, axes + 1)) / 16
    return points.astype(np.float32)


class PointChecks:
    ops: Implementation

    @sweep
    @given(
        scenes(max_axes=4, max_size=4),
        st.sampled_from(["mean", "max", "sum", "first"]),
        st.sampled_from([0, 1, 2]),
        st.sampled_from([0, 1, 3]),
        st.sampled_from([0, 1, 60]),
    )
    def test_voxelize(
        self, scene: Scene, reduce: str, max_points: int, max_voxels: int, count: int
    ) -> None:
        rng, axes = scene.rng(), scene.axes
        sizes = scene.spatial_shape[::-1]  # point order
        low = [-0.5] * axes
        point_range = [*low, *(lo + 0.5 * n for lo, n in zip(low, sizes, strict=True))]
        points = random_points(rng, axes, count, 0.5 * max(sizes)) - np.float32(0.5)
        points[rng.random(count) < 0.05, 0] = np.nan
        points[rng.random(count) < 0.05, 0] = np.inf
        batch = rng.integers(0, 3, size=count).astype(np.int32)
        members: dict[tuple[int, ...], list[int]] = {}
        for p in range(count):
            cell = (points[p, :axes] - np.float32(low)) / np.float32(0.5)
            if all(0 <= c < n for c, n in zip(cell.tolist(), sizes, strict=True)):
                index = [math.floor(c) for c in cell.tolist()]
                members.setdefault((int(batch[p]), *index[::-1]), []).append(p)
        if max_voxels:  # dictionaries keep the order of first appearance
            seen = [0, 0, 0]
            for site in list(members):
                seen[site[0]] += 1
                if seen[site[0]] > max_voxels:
                    del members[site]
        functions = {"sum": np.sum, "mean": np.mean, "max": np.max, "first": lambda v, axis: v[0]}
        expected_sites = sorted(members)
        expected = np.zeros([len(expected_sites), axes + 1])
        expected_voxel = np.full(count, -1, dtype=np.int32)
        for row, site in enumerate(expected_sites):
            used = members[site][: max_points or None]
            expected[row] = functions[reduce](points[used].astype(np.float64), axis=0)
            expected_voxel[members[site]] = row
        coords, features, point_voxel = self.ops.voxelize(
            points, batch, point_range, [0.5] * axes, reduce, max_points, max_voxels
        )
        assert [tuple(site) for site in coords.tolist()] == expected_sites
        np.testing.assert_array_equal(point_voxel, expected_voxel)
        assert (coords.dtype, point_voxel.dtype) == (np.int32, np.int32)
        assert_close(features, expected)

    @sweep
    @given(
        scenes(max_axes=3, max_size=4),
        st.sampled_from(["nearest", "trilinear"]),
        st.sampled_from(["center", "corner"]),
        st.booleans(),
    )
    def test_interpolate(self, scene: Scene, mode: str, anchor: str, normalize: bool) -> None:
        rng, axes, count = scene.rng(), scene.axes, 25
        features = scene.values(scene.rows, 3)
        points = random_points(rng, axes, count, 0.5 * max(scene.spatial_shape))
        points[0, 0], points[1, 0], points[2, 0] = np.nan, np.inf, 1e30
        batch = rng.integers(0, scene.batch_size, size=count).astype(np.int32)
        row_of = {tuple(site): row for row, site in enumerate(scene.coords.tolist())}
        shift = 0.5 if anchor == "center" else 0.0
        expected = np.zeros([count, 3])
        for p in range(3, count):
            # Where the point lies in units of sites, coords order: site i sits at i.
            at = [c / 0.5 - shift for c in points[p, :axes].tolist()][::-1]
            if mode == "nearest":
                corners = [([math.floor(c + 0.5) for c in at], 1.0)]
            else:
                corners = []
                for corner in itertools.product((0, 1), repeat=axes):
                    cell = [math.floor(c) + up for c, up in zip(at, corner, strict=True)]
                    near = [1 - abs(c - i) for c, i in zip(at, cell, strict=True)]
                    corners.append((cell, math.prod(near)))
            total = 0.0
            for cell, weight in corners:
                row = row_of.get((int(batch[p]), *cell))
                if row is not None:
                    expected[p] += weight * features[row]
                    total += weight
            if normalize and total > 0 and mode == "trilinear":
                expected[p] /= total
        out = self.ops.sparse_interpolate(
            self.ops.floats(features),
            scene.coords,
            points,
            batch,
            [0.0] * axes + [0.5 * n for n in scene.spatial_shape[::-1]],
            [0.5] * axes,
            mode,
            anchor,
            normalize,
        )
        assert_close(out, expected)

    @sweep
    @given(st.integers(0, 25), st.integers(0, 2**16), st.sampled_from([0, 2]))
    def test_rotated_nms(self, count: int, seed: int, max_per_frame: int) -> None:
        rng = np.random.default_rng(seed)
        centre, size = rng.uniform(0, 6, (count, 3)), rng.uniform(0.3, 4, (count, 3))
        boxes = np.concatenate([centre, size, rng.uniform(-4, 4, (count, 1))], axis=1)
        boxes = boxes.astype(np.float32)
        scores = rng.integers(0, 8, size=count).astype(np.float32) / 8  # with ties
        scores[rng.random(count) < 0.1] = np.nan
        frame = rng.integers(0, 2, size=count).astype(np.int32)
        expected: list[int] = []
        for number in (0, 1):
            ranked = [i for i in range(count) if frame[i] == number and scores[i] >= 0.25]
            ranked.sort(key=lambda i: (-scores[i], i))
            kept: list[int] = []
            for i in ranked:
                overlaps = [box_iou(boxes[i], boxes[j]) for j in kept]
                assume(all(abs(iou - 0.3) > 1e-4 for iou in overlaps))
                if all(iou <= 0.3 for iou in overlaps):
                    kept.append(i)
            expected += kept[: max_per_frame or None]
        kept = self.ops.rotated_nms(boxes, scores, frame, 0.3, 0.25, max_per_frame)
        assert kept.dtype == np.int64
        assert kept.tolist() == expected

    @pytest.mark.parametrize(
        ("second", "iou"),
        [
            ([0, 0, 9, 2, 2, 1, 0], 1.0),  # z plays no part
            ([1, 0, 0, 2, 2, 1, 0], 1 / 3),
            ([2, 0, 0, 2, 2, 1, 0], 0.0),  # they touch
            ([0, 0, 0, 2, 2, 1, math.pi / 2], 1.0),
            ([0, 0, 0, 4, 1, 1, math.pi / 2], 1 / 3),  # a cross: 2 of 4 + 4 - 2
            ([0, 0, 0, 1, 1, 1, 0.7], 0.25),  # inside
            ([0, 0, 0, 0, 2, 1, 0], 0.0),  # no area
        ],
    )
    def test_overlap_by_hand(self, second: list[float], iou: float) -> None:
        """The second box is suppressed exactly when the threshold is below the overlap."""
        boxes = np.array([[0, 0, 0, 2, 2, 1, 0], second], dtype=np.float32)
        scores, frame = np.array([1.0, 0.5], np.float32), np.zeros(2, np.int32)
        above = self.ops.rotated_nms(boxes, scores, frame, iou + 1e-4)
        assert above.tolist() == [0, 1]
        if iou > 0:
            assert self.ops.rotated_nms(boxes, scores, frame, iou - 1e-4).tolist() == [0]

    def test_boxes_that_are_not_finite(self) -> None:
        """They take no part, whatever their score, and harm no other box."""
        boxes = np.zeros([2, 7], dtype=np.float32)
        boxes[1, 6] = np.nan
        frame = np.zeros(2, dtype=np.int32)
        kept = self.ops.rotated_nms(boxes, np.array([0.5, 0.1], np.float32), frame, 0.5, 0.2)
        assert kept.tolist() == [0]
        kept = self.ops.rotated_nms(boxes, np.array([0.5, 0.9], np.float32), frame, 0.5, 0.2)
        assert kept.tolist() == [0]


def rectangle(box: Array) -> Polygon:
    """Corners counter-clockwise."""
    x, y, dx, dy, yaw = (float(box[i]) for i in (0, 1, 3, 4, 6))
    cos, sin = math.cos(yaw), math.sin(yaw)
    return [
        (x + u * dx / 2 * cos - v * dy / 2 * sin, y + u * dx / 2 * sin + v * dy / 2 * cos)
        for u, v in ((1, 1), (-1, 1), (-1, -1), (1, -1))
    ]


def area(polygon: Polygon) -> float:
    following = polygon[1:] + polygon[:1]
    return sum(a[0] * b[1] - a[1] * b[0] for a, b in zip(polygon, following, strict=True)) / 2


def clip(polygon: Polygon, a: tuple[float, float], b: tuple[float, float]) -> Polygon:
    """The part of a polygon left of the line from a to b (Sutherland and Hodgman 1974)."""

    def side(p: tuple[float, float]) -> float:
        return (b[0] - a[0]) * (p[1] - a[1]) - (b[1] - a[1]) * (p[0] - a[0])

    kept: Polygon = []
    for p, q in zip(polygon, polygon[1:] + polygon[:1], strict=True):
        s, t = side(p), side(q)
        if s >= 0:
            kept.append(p)
        if (s > 0 > t) or (s < 0 < t):
            f = s / (s - t)
            kept.append((p[0] + f * (q[0] - p[0]), p[1] + f * (q[1] - p[1])))
    return kept


def box_iou(first: Array, second: Array) -> float:
    one, two = rectangle(first), rectangle(second)
    overlap = one
    for a, b in zip(two, two[1:] + two[:1], strict=True):
        overlap = clip(overlap, a, b) if overlap else overlap
    shared = area(overlap) if overlap else 0.0
    return shared / (area(one) + area(two) - shared)
