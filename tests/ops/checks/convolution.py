# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Convolution and pooling against their dense counterparts in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from tests.ops.checks import dense_oracle
from tests.ops.checks.dense_oracle import ACTIVATE, assert_close, densify, sample
from tests.ops.checks.implementations import Implementation
from tests.ops.checks.scenes import Kernel, Scene, convolutions, scenes, sites_of, sweep

Array = NDArray[Any]


class ConvolutionChecks:
    ops: Implementation

    def _weight(self, scene: Scene, kernel: Kernel) -> Array:
        per_group = kernel.in_channels // kernel.groups
        return scene.values(kernel.volume, per_group, kernel.out_channels)

    def _regular(self, scene: Scene, kernel: Kernel, transposed: bool = False) -> Any:
        return self.ops.sparse_rulebook(
            scene.coords,
            scene.spatial_shape,
            kernel.kernel_size,
            kernel.stride,
            kernel.padding,
            kernel.dilation,
            transposed,
            kernel.output_padding if transposed else None,
        )

    def _check(
        self,
        scene: Scene,
        kernel: Kernel,
        features: Array,
        neighbors: Array,
        weight: Array,
        expected: Array,
        activation: str = "none",
    ) -> None:
        """The plain convolution, then with bias, residual and activation."""
        floats = self.ops.floats
        plain = self.ops.sparse_conv(
            floats(features), neighbors, floats(weight), groups=kernel.groups
        )
        assert_close(plain, expected)
        bias = scene.values(kernel.out_channels)
        residual = scene.values(*expected.shape)
        fused = self.ops.sparse_conv(
            floats(features),
            neighbors,
            floats(weight),
            floats(bias),
            floats(residual),
            kernel.groups,
            activation,
            0.1,
        )
        activated = ACTIVATE[activation](torch.from_numpy(expected + bias + residual))
        assert_close(fused, activated.numpy())

    @sweep
    @given(convolutions(), st.sampled_from(sorted(ACTIVATE)))
    def test_regular(self, case: tuple[Scene, Kernel], activation: str) -> None:
        scene, kernel = case
        assume(min(kernel.output_shape(scene.spatial_shape)) >= 1)
        features, weight = scene.values(scene.rows, kernel.in_channels), self._weight(*case)
        out_coords, neighbors = self._regular(scene, kernel)
        dense = densify(scene.coords, features, scene.batch_size, scene.spatial_shape, 0.0)
        expected = sample(dense_oracle.conv(dense, weight, kernel), out_coords)
        self._check(scene, kernel, features, neighbors, weight, expected, activation)

    @sweep
    @given(convolutions(odd=True), st.sampled_from(sorted(ACTIVATE)))
    def test_submanifold(self, case: tuple[Scene, Kernel], activation: str) -> None:
        scene, kernel = case
        ones = [1] * scene.axes
        padding = [k // 2 * d for k, d in zip(kernel.kernel_size, kernel.dilation, strict=True)]
        kernel = Kernel(
            kernel.kernel_size,
            ones,
            padding,
            kernel.dilation,
            ones,
            kernel.groups,
            kernel.in_channels,
            kernel.out_channels,
        )
        features, weight = scene.values(scene.rows, kernel.in_channels), self._weight(*case)
        neighbors = self.ops.submanifold_rulebook(
            scene.coords, scene.spatial_shape, kernel.kernel_size, kernel.dilation
        )
        dense = densify(scene.coords, features, scene.batch_size, scene.spatial_shape, 0.0)
        expected = sample(dense_oracle.conv(dense, weight, kernel), scene.coords)
        self._check(scene, kernel, features, neighbors, weight, expected, activation)

    @sweep
    @given(convolutions())
    def test_transposed(self, case: tuple[Scene, Kernel]) -> None:
        scene, kernel = case
        assume(min(kernel.output_shape(scene.spatial_shape, transposed=True)) >= 1)
        features, weight = scene.values(scene.rows, kernel.in_channels), self._weight(*case)
        out_coords, neighbors = self._regular(scene, kernel, transposed=True)
        dense = densify(scene.coords, features, scene.batch_size, scene.spatial_shape, 0.0)
        grown = dense_oracle.conv_transpose(dense, weight, kernel, kernel.output_padding)
        self._check(scene, kernel, features, neighbors, weight, sample(grown, out_coords))

    @sweep
    @given(convolutions())
    def test_inverse(self, case: tuple[Scene, Kernel]) -> None:
        """Back from a regular convolution's outputs: the dense transpose at its input sites."""
        scene, kernel = case
        out_shape = kernel.output_shape(scene.spatial_shape)
        assume(min(out_shape) >= 1)
        out_coords, neighbors = self._regular(scene, kernel)
        inverse = self.ops.inverse_rulebook(neighbors, scene.rows)
        features = scene.values(len(out_coords), kernel.in_channels)
        weight = self._weight(*case)
        dense = densify(out_coords, features, scene.batch_size, out_shape, 0.0)
        back = [
            size - ((out - 1) * s - 2 * p + d * (k - 1) + 1)
            for size, out, k, s, p, d in zip(
                scene.spatial_shape,
                out_shape,
                kernel.kernel_size,
                kernel.stride,
                kernel.padding,
                kernel.dilation,
                strict=True,
            )
        ]
        limits = zip(back, kernel.stride, kernel.dilation, strict=True)
        assume(all(extra < max(s, d) for extra, s, d in limits))
        restored = dense_oracle.conv_transpose(dense, weight, kernel, back)
        expected = sample(restored, scene.coords)
        self._check(scene, kernel, features, inverse, weight, expected)

    @pytest.mark.parametrize(("in_channels", "out_channels"), [(64, 64), (33, 95), (3, 130)])
    def test_many_rows(self, in_channels: int, out_channels: int) -> None:
        """More rows than one tile, channels that fill no vector evenly."""
        rng = np.random.default_rng(0)
        active = rng.random([2, 6, 20, 23]) < 0.35
        scene = Scene(sites_of(active), [6, 20, 23], 2, 0)
        ones = [1, 1, 1]
        kernel = Kernel([3, 3, 3], ones, ones, ones, ones, 1, in_channels, out_channels)
        features, weight = scene.values(scene.rows, in_channels), self._weight(scene, kernel)
        neighbors = self.ops.submanifold_rulebook(scene.coords, scene.spatial_shape, [3] * 3, ones)
        dense = densify(scene.coords, features, 2, scene.spatial_shape, 0.0)
        expected = sample(dense_oracle.conv(dense, weight, kernel), scene.coords)
        self._check(scene, kernel, features, neighbors, weight, expected, "relu")

    @sweep
    @given(convolutions())
    def test_pooling(self, case: tuple[Scene, Kernel]) -> None:
        scene, kernel = case
        assume(min(kernel.output_shape(scene.spatial_shape)) >= 1)
        features = scene.values(scene.rows, 3)
        out_coords, neighbors = self._regular(scene, kernel)
        batch, shape = scene.batch_size, scene.spatial_shape
        ones, plain = dense_oracle.single_channel(kernel)
        low = densify(scene.coords, features, batch, shape, float("-inf"))
        largest = sample(dense_oracle.max_pool(low, kernel), out_coords)
        zero = densify(scene.coords, features, batch, shape, 0.0)
        channels = [dense_oracle.conv(zero[:, [c]], ones, plain) for c in range(3)]
        total = sample(torch.cat(channels, dim=1), out_coords)
        mask = densify(scene.coords, np.ones([scene.rows, 1]), batch, shape, 0.0)
        count = sample(dense_oracle.conv(mask, ones, plain), out_coords)
        for mode, expected in (("max", largest), ("sum", total), ("avg", total / count)):
            pooled = self.ops.sparse_pool(self.ops.floats(features), neighbors, mode)
            assert_close(pooled, expected)

    def test_rows_without_pairs(self) -> None:
        """A convolution gives act(bias + residual), pooling 0."""
        floats = self.ops.floats
        neighbors = np.array([[0, -1], [-1, -1]], dtype=np.int32)
        features, weight = floats([[2.0]]), floats([[[3.0]], [[5.0]]])
        bias, residual = floats([1.0]), floats([[10.0], [-20.0]])
        out = self.ops.sparse_conv(features, neighbors, weight, bias, residual, 1, "relu")
        assert out.tolist() == [[17.0], [0.0]]
        for mode in ("max", "avg", "sum"):
            pooled = self.ops.sparse_pool(floats([[-2.0]]), neighbors, mode)
            assert pooled.tolist() == [[-2.0], [0.0]]

    def test_max_pooling_keeps_nan(self) -> None:
        neighbors = np.array([[0], [1]], dtype=np.int32)
        for rows in ([[np.nan], [1.0]], [[1.0], [np.nan]]):
            out = self.ops.sparse_pool(self.ops.floats(rows), neighbors, "max")
            assert np.isnan(out).all()

    @sweep
    @given(scenes())
    def test_global_pooling(self, scene: Scene) -> None:
        features = scene.values(scene.rows, 4)
        functions = {"max": np.max, "avg": np.mean, "sum": np.sum}
        for mode, function in functions.items():
            expected = np.zeros([scene.batch_size + 1, 4])
            for frame in range(scene.batch_size):
                rows = features[scene.coords[:, 0] == frame]
                if len(rows):
                    expected[frame] = function(rows, axis=0)
            out = self.ops.sparse_global_pool(
                self.ops.floats(features), scene.coords, scene.batch_size + 1, mode
            )
            assert_close(out, expected)
