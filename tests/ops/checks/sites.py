# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Canonical order, look-up and rulebooks against Python dictionaries."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from tests.ops.checks import dense_oracle
from tests.ops.checks.implementations import Implementation
from tests.ops.checks.scenes import Kernel, Scene, convolutions, scenes, sites_of, sweep

Array = NDArray[Any]

# The tutorials' 5 × 5 image with active pixels P1 (1, 2) and P2 (2, 3), rows 0 and 1.
IMAGE = np.array([[0, 1, 2], [0, 2, 3]], dtype=np.int32)


def rows_by_site(coords: Array) -> dict[tuple[int, ...], int]:
    return {tuple(site): row for row, site in enumerate(coords.tolist())}


def expected_rulebook(coords: Array, out_coords: Array, kernel: Kernel, transposed: bool) -> Array:
    """neighbors [K, M] by looking every equation up."""
    row_of = rows_by_site(coords)
    neighbors = np.full([kernel.volume, len(out_coords)], -1, dtype=np.int32)
    offsets = itertools.product(*(range(size) for size in kernel.kernel_size))
    for k, offset in enumerate(offsets):
        shift = np.array(offset) * kernel.dilation - np.array(kernel.padding)
        for column, out in enumerate(out_coords):
            if transposed:
                source, rest = np.divmod(out[1:] - shift, kernel.stride)
                if rest.any():
                    continue
            else:
                source = out[1:] * kernel.stride + shift
            neighbors[k, column] = row_of.get((int(out[0]), *source.tolist()), -1)
    return neighbors


class SiteChecks:
    ops: Implementation

    @sweep
    @given(scenes(max_axes=4, max_size=5), st.booleans())
    def test_sort_sites(self, scene: Scene, with_duplicates: bool) -> None:
        given_rows = scene.coords
        if with_duplicates:
            given_rows = np.concatenate([given_rows, given_rows[: scene.rows // 2 + 1]])
        shuffled = np.ascontiguousarray(scene.rng().permutation(given_rows))
        repeats = len(shuffled) > scene.rows
        if repeats:
            with pytest.raises(ValueError):
                self.ops.sort_sites(shuffled, scene.spatial_shape)
        policy = "first" if repeats else "error"
        coords, order, rank = self.ops.sort_sites(shuffled, scene.spatial_shape, policy)
        sites = [tuple(site) for site in shuffled.tolist()]
        expected = sorted(set(sites))
        assert [tuple(site) for site in coords.tolist()] == expected
        assert order.tolist() == [sites.index(site) for site in expected]
        assert rank.tolist() == [expected.index(site) for site in sites]
        assert (coords.dtype, order.dtype, rank.dtype) == (np.int32, np.int64, np.int64)

    @sweep
    @given(scenes(max_axes=4, max_size=5))
    def test_check_canonical(self, scene: Scene) -> None:
        self.ops.check_canonical(scene.coords, scene.spatial_shape)
        if scene.rows > 1:
            with pytest.raises(ValueError):
                self.ops.check_canonical(scene.coords[::-1].copy(), scene.spatial_shape)
            with pytest.raises(ValueError):
                twice = np.repeat(scene.coords, 2, axis=0)
                self.ops.check_canonical(twice, scene.spatial_shape)

    @sweep
    @given(scenes(max_axes=4, max_size=5))
    def test_find_sites(self, scene: Scene) -> None:
        rng = scene.rng()
        query = rng.integers(-2, 7, size=(40, 1 + scene.axes)).astype(np.int32)
        query[0], query[1] = np.iinfo(np.int32).max, np.iinfo(np.int32).min
        query = np.concatenate([query, rng.permutation(scene.coords)])
        row_of = rows_by_site(scene.coords)
        row = self.ops.find_sites(scene.coords, query)
        assert row.dtype == np.int32
        assert row.tolist() == [row_of.get(tuple(site), -1) for site in query.tolist()]

    @sweep
    @given(convolutions(max_axes=4, odd=True))
    def test_submanifold_rulebook(self, case: tuple[Scene, Kernel]) -> None:
        scene, kernel = case
        padding = [k // 2 * d for k, d in zip(kernel.kernel_size, kernel.dilation, strict=True)]
        ones = [1] * scene.axes
        same = Kernel(kernel.kernel_size, ones, padding, kernel.dilation, ones, 1, 1, 1)
        neighbors = self.ops.submanifold_rulebook(
            scene.coords, scene.spatial_shape, kernel.kernel_size, kernel.dilation
        )
        expected = expected_rulebook(scene.coords, scene.coords, same, False)
        assert neighbors.dtype == np.int32
        np.testing.assert_array_equal(neighbors, expected)

    @sweep
    @given(convolutions(), st.booleans())
    def test_sparse_rulebook(self, case: tuple[Scene, Kernel], transposed: bool) -> None:
        scene, kernel = case
        arguments = (
            scene.coords,
            scene.spatial_shape,
            kernel.kernel_size,
            kernel.stride,
            kernel.padding,
            kernel.dilation,
            transposed,
            kernel.output_padding if transposed else None,
        )
        out_shape = kernel.output_shape(scene.spatial_shape, transposed)
        if min(out_shape) < 1:
            with pytest.raises(ValueError):
                self.ops.sparse_rulebook(*arguments)
            return
        out_coords, neighbors = self.ops.sparse_rulebook(*arguments)
        expected_sites = dense_oracle.active_outputs(scene, kernel, transposed)
        np.testing.assert_array_equal(out_coords, expected_sites)
        expected = expected_rulebook(scene.coords, out_coords, kernel, transposed)
        np.testing.assert_array_equal(neighbors, expected)
        # Exactly these output sites: others than those that are fed, too.
        chosen = sites_of(scene.rng().random([scene.batch_size, *out_shape]) < 0.5)
        same, neighbors = self.ops.sparse_rulebook(*arguments, out_coords=chosen)
        np.testing.assert_array_equal(same, chosen)
        expected = expected_rulebook(scene.coords, chosen, kernel, transposed)
        np.testing.assert_array_equal(neighbors, expected)

    @sweep
    @given(convolutions())
    def test_inverse_rulebook(self, case: tuple[Scene, Kernel]) -> None:
        scene, kernel = case
        chosen = sites_of(scene.rng().random([scene.batch_size, *scene.spatial_shape]) < 0.7)
        neighbors = expected_rulebook(scene.coords, chosen, kernel, False)
        expected = np.full([kernel.volume, scene.rows], -1, dtype=np.int32)
        for k, o in np.argwhere(neighbors >= 0):
            expected[k, neighbors[k, o]] = o
        inverse = self.ops.inverse_rulebook(neighbors, scene.rows)
        assert inverse.dtype == np.int32
        np.testing.assert_array_equal(inverse, expected)

    def test_worked_example(self) -> None:
        """Every number here is written by hand: o = i - k, within the 3 × 3 output."""
        out_coords, neighbors = self.ops.sparse_rulebook(
            IMAGE, [5, 5], [3, 3], [1, 1], [0, 0], [1, 1]
        )
        assert out_coords.tolist() == [
            [0, 0, 0],
            [0, 0, 1],
            [0, 0, 2],
            [0, 1, 0],
            [0, 1, 1],
            [0, 1, 2],
            [0, 2, 1],
            [0, 2, 2],
        ]
        assert neighbors.tolist() == [
            [-1, -1, -1, -1, -1, 0, -1, -1],  # (0, 0): P1 feeds (1, 2); P2's (2, 3) is outside
            [-1, -1, -1, -1, 0, -1, -1, 1],  # (0, 1): P1 feeds (1, 1), P2 feeds (2, 2)
            [-1, -1, -1, 0, -1, -1, 1, -1],  # (0, 2): P1 feeds (1, 0), P2 feeds (2, 1)
            [-1, -1, 0, -1, -1, -1, -1, -1],  # (1, 0): P1 feeds (0, 2); P2's (1, 3) is outside
            [-1, 0, -1, -1, -1, 1, -1, -1],  # (1, 1): P1 feeds (0, 1), P2 feeds (1, 2)
            [0, -1, -1, -1, 1, -1, -1, -1],  # (1, 2): P1 feeds (0, 0), P2 feeds (1, 1)
            [-1, -1, -1, -1, -1, -1, -1, -1],  # (2, 0): both fall outside
            [-1, -1, 1, -1, -1, -1, -1, -1],  # (2, 1): P2 feeds (0, 2)
            [-1, 1, -1, -1, -1, -1, -1, -1],  # (2, 2): P2 feeds (0, 1)
        ]

    def test_worked_example_submanifold(self) -> None:
        """The output sites are P1 and P2; they see themselves and each other."""
        neighbors = self.ops.submanifold_rulebook(IMAGE, [5, 5], [3, 3], [1, 1])
        assert neighbors.tolist() == [
            [-1, 0],  # (0, 0): P2's upper left neighbour is P1
            [-1, -1],
            [-1, -1],
            [-1, -1],
            [0, 1],  # (1, 1): each itself
            [-1, -1],
            [-1, -1],
            [-1, -1],
            [1, -1],  # (2, 2): P1's lower right neighbour is P2
        ]
