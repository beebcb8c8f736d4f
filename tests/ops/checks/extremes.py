# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""SparseConv on values that float32 holds and parts of bfloat16 do not, and its accuracy beside
float32's own: an instruction set may multiply however it likes as long as none of this shows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.ops.checks.implementations import Implementation

ROWS, VOLUME = 700, 27
CHANNELS = [(32, 32), (32, 64), (64, 64), (64, 160), (160, 96)]
EXTREMES = [
    float("inf"),
    float("-inf"),
    float("nan"),
    3.4028235e38,
    1e30,
    np.float32(2.0**-41),
    1e-38,
    1e-45,
]


def layer(in_channels: int, out_channels: int) -> tuple[NDArray[Any], ...]:
    """Features with zeros as after a ReLU, neighbors with holes, weight."""
    rng = np.random.default_rng(in_channels)
    features = np.maximum(rng.standard_normal((ROWS, in_channels)), -0.5).astype(np.float32)
    neighbors = rng.integers(0, ROWS, (VOLUME, ROWS)).astype(np.int32)
    neighbors[rng.random((VOLUME, ROWS)) < 0.6] = -1
    neighbors[3] = -1  # an offset without a pair
    weight = rng.standard_normal((VOLUME, in_channels, out_channels)).astype(np.float32)
    return features, neighbors, weight


def exact(
    features: NDArray[Any], neighbors: NDArray[Any], weight: NDArray[Any], dtype: type
) -> NDArray[Any]:
    """The sums in `dtype`, offset by offset."""
    total: NDArray[Any] = np.zeros((neighbors.shape[1], weight.shape[2]), dtype)
    with np.errstate(all="ignore"):
        for row, kernel in zip(neighbors, weight.astype(dtype), strict=True):
            hit = row >= 0
            total[hit] += features.astype(dtype)[row[hit]] @ kernel
    return total


def chained(
    features: NDArray[Any], neighbors: NDArray[Any], weight: NDArray[Any]
) -> NDArray[np.float32]:
    """The sums in float32, offset by offset and channel by channel, each product rounded."""
    total = np.zeros((neighbors.shape[1], weight.shape[2]), np.float32)
    for row, kernel in zip(neighbors, weight, strict=True):
        hit = row >= 0
        part = total[hit]
        for values, weights in zip(features[row[hit]].T, kernel, strict=True):
            part += values[:, None] * weights
        total[hit] = part
    return total


class ExtremeChecks:
    ops: Implementation

    @pytest.mark.parametrize("channels", CHANNELS)
    def test_errs_no_more_than_float32(self, channels: tuple[int, int]) -> None:
        features, neighbors, weight = layer(*channels)
        expected = exact(features, neighbors, weight, np.float64)
        plain = np.abs(chained(features, neighbors, weight) - expected)
        error = np.abs(self.ops.sparse_conv(features, neighbors, weight) - expected)
        assert error.max() <= 2 * plain.max()
        assert np.linalg.norm(error) <= 1.2 * np.linalg.norm(plain)

    @pytest.mark.parametrize("value", EXTREMES)
    def test_a_row_of_extreme_values(self, value: float) -> None:
        """Rows that read it are what float32 makes of them; the others do not change by a bit."""
        features, neighbors, weight = layer(64, 64)
        ordinary = self.ops.sparse_conv(features, neighbors, weight)
        changed = features.copy()
        changed[11] = 0  # the value is the largest of its row, however small
        changed[11, 5] = value
        reads = (neighbors == 11).any(axis=0)
        assert 0 < reads.sum() < ROWS / 2
        found = self.ops.sparse_conv(changed, neighbors, weight)
        np.testing.assert_array_equal(found[~reads], ordinary[~reads])
        expected = exact(changed, neighbors, weight, np.float32)
        infinite = ~np.isfinite(expected)
        np.testing.assert_array_equal(found[infinite], expected[infinite])
        scale = np.abs(expected[~infinite]).max()
        assert np.abs(found[~infinite] - expected[~infinite]).max() <= 1e-5 * scale

    @pytest.mark.parametrize("value", [1e-38, 1e-45, 2.0**-41, 2.0**61, 1e35])
    def test_features_of_one_size(self, value: float) -> None:
        """Where all is tiny or huge, float32 still has its bits, or its subnormal ones."""
        features, neighbors, weight = layer(64, 64)
        found = self.ops.sparse_conv(features * np.float32(value), neighbors, weight)
        scaled = (features * np.float32(value)).astype(np.float64)
        expected = exact(scaled, neighbors, weight, np.float64)
        smallest = 2.0**-149 * VOLUME * 64
        assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max() + smallest

    @pytest.mark.parametrize("value", [1e-39, 1e-42])
    def test_products_below_the_normal_numbers(self, value: float) -> None:
        """They may be taken as 0, as processors do that flush subnormal numbers."""
        features, neighbors, weight = layer(64, 64)
        found = self.ops.sparse_conv(features * np.float32(value), neighbors, weight)
        scaled = (features * np.float32(value)).astype(np.float64)
        expected = exact(scaled, neighbors, weight, np.float64)
        assert np.abs(found - expected).max() <= 2.0**-126 * VOLUME * 64

    @pytest.mark.parametrize("value", EXTREMES)
    def test_a_weight_of_extreme_values(self, value: float) -> None:
        features, neighbors, weight = layer(64, 64)
        weight *= np.float32(2.0**-60)  # tiny beside the one
        weight[5, 7, 9] = value
        found = self.ops.sparse_conv(features, neighbors, weight)
        expected = exact(features, neighbors, weight, np.float32)
        infinite = ~np.isfinite(expected)
        np.testing.assert_array_equal(found[infinite], expected[infinite])
        scale = np.abs(expected[~infinite]).max()
        assert np.abs(found[~infinite] - expected[~infinite]).max() <= 1e-5 * scale

    def test_a_row_is_itself_anywhere(self) -> None:
        """Its bits do not depend on where in a tile it is, nor on what is beside it."""
        features, neighbors, weight = layer(64, 64)
        order = np.random.default_rng(1).permutation(ROWS)
        whole = self.ops.sparse_conv(features, neighbors, weight)
        moved = self.ops.sparse_conv(features, np.ascontiguousarray(neighbors[:, order]), weight)
        np.testing.assert_array_equal(moved, whole[order])
        for row in (0, 31, 32, ROWS - 1):
            alone = np.ascontiguousarray(neighbors[:, row : row + 1])
            np.testing.assert_array_equal(
                self.ops.sparse_conv(features, alone, weight)[0], whole[row]
            )
