# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Dense conversion, union, gathering and reduction against loops."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from tests.ops.checks.dense_oracle import assert_close, densify
from tests.ops.checks.implementations import Implementation
from tests.ops.checks.scenes import Scene, scenes, sweep

Array = NDArray[Any]


class RowChecks:
    ops: Implementation

    @sweep
    @given(scenes(max_axes=4, max_size=5), st.sampled_from([1, 3, 17]))
    def test_dense_and_back(self, scene: Scene, channels: int) -> None:
        features = scene.values(scene.rows, channels)
        order = scene.rng().permutation(scene.rows)
        dense = self.ops.sparse_to_dense(
            np.ascontiguousarray(scene.coords[order]),
            self.ops.floats(features[order]),
            scene.batch_size,
            scene.spatial_shape,
        )
        expected = densify(scene.coords, features, scene.batch_size, scene.spatial_shape, 0.0)
        np.testing.assert_array_equal(dense, expected)
        coords, rows = self.ops.dense_to_sparse(dense)
        np.testing.assert_array_equal(coords, scene.coords)
        np.testing.assert_array_equal(rows, features)

    def test_last_of_equal_sites_wins(self) -> None:
        coords = np.array([[0, 1], [0, 0], [0, 1]], dtype=np.int32)
        dense = self.ops.sparse_to_dense(coords, self.ops.floats([[1.0], [2.0], [3.0]]), 1, [3])
        assert dense.tolist() == [[[2.0, 3.0, 0.0]]]

    def test_threshold(self) -> None:
        """Active above the threshold in any channel, by magnitude; NaN is active."""
        dense = self.ops.floats([[[0.5, -0.75, 0.0, 0.0], [0.0, 0.0, np.nan, 0.5]]])
        coords, rows = self.ops.dense_to_sparse(dense, 0.5)
        assert coords.tolist() == [[0, 1], [0, 2]]
        np.testing.assert_array_equal(rows, [[-0.75, 0.0], [0.0, np.nan]])

    @sweep
    @given(scenes(max_axes=4, max_size=5), st.sampled_from(["sum", "concat"]))
    def test_union(self, scene: Scene, mode: str) -> None:
        rng = scene.rng()
        side = rng.integers(0, 3, size=scene.rows)  # 0: only a, 1: only b, 2: both
        coords_a, coords_b = scene.coords[side != 1], scene.coords[side != 0]
        channels_b = 3 if mode == "sum" else 5
        features_a = rng.integers(-9, 9, size=(len(coords_a), 3)).astype(np.float64)
        features_b = rng.integers(-9, 9, size=(len(coords_b), channels_b)).astype(np.float64)
        by_site_a = {tuple(s): f for s, f in zip(coords_a.tolist(), features_a, strict=True)}
        by_site_b = {tuple(s): f for s, f in zip(coords_b.tolist(), features_b, strict=True)}
        expected = []
        for site in sorted(by_site_a.keys() | by_site_b.keys()):
            a = by_site_a.get(site, np.zeros(3))
            b = by_site_b.get(site, np.zeros(channels_b))
            expected.append(a + b if mode == "sum" else np.concatenate([a, b]))
        coords, features = self.ops.sparse_union(
            np.ascontiguousarray(coords_a),
            self.ops.floats(features_a),
            np.ascontiguousarray(coords_b),
            self.ops.floats(features_b),
            mode,
        )
        np.testing.assert_array_equal(coords, scene.coords)
        channels = 3 if mode == "sum" else 8
        np.testing.assert_array_equal(features, np.reshape(expected, (-1, channels)))

    @pytest.mark.parametrize("rows", [0, 1, 19, 989])
    @pytest.mark.parametrize("kind", [np.float64, np.int32, np.int64])
    def test_gather_rows(self, rows: int, kind: type) -> None:
        rng = np.random.default_rng(rows)
        x = rng.integers(-99, 99, size=(rows, 5)).astype(kind)
        x = self.ops.floats(x) if kind is np.float64 else x
        row = rng.integers(-1, rows, size=300).astype(np.int32)
        out = self.ops.gather_rows(x, row, 7.0)
        assert out.dtype == x.dtype
        expected = [x[r].tolist() if r >= 0 else [7] * 5 for r in row]
        assert out.tolist() == expected

    @pytest.mark.parametrize("rows", [0, 1, 19, 989])
    @pytest.mark.parametrize("mode", ["sum", "mean", "max", "first"])
    def test_reduce_rows(self, rows: int, mode: str) -> None:
        rng = np.random.default_rng(rows)
        x = rng.standard_normal((rows, 5)).astype(np.float32).astype(np.float64)
        row = rng.integers(-1, 40, size=rows).astype(np.int32)
        expected = np.zeros([41, 5])
        functions = {"sum": np.sum, "mean": np.mean, "max": np.max, "first": lambda v, axis: v[0]}
        for v in range(41):
            if (row == v).any():
                expected[v] = functions[mode](x[row == v], axis=0)
        assert_close(self.ops.reduce_rows(self.ops.floats(x), row, 41, mode), expected)
