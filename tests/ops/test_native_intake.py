# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Bytes from outside, at any address, to aligned arrays; and the memory those come from."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.typing import NDArray

from voxgate_ops import _native

SHAPES = [(300,), (40, 300), (7, 40, 300), (3, 7, 40, 300)]
COUNTS = [0, 1, 19, 989]


def at_odd_address(data: bytes) -> NDArray[np.uint8]:
    buffer = np.frombuffer(b"x" + data, np.uint8)
    start = 1 if buffer.ctypes.data % 2 == 0 else 0
    return buffer[1:] if start else np.frombuffer(b"xx" + data, np.uint8)[2:]


def sites(count: int, shape: tuple[int, ...]) -> NDArray[np.int32]:
    """Distinct sites in random order, as far as the grid has so many."""
    rng = np.random.default_rng(count)
    cells = rng.permutation(int(np.prod(shape)))[:count]
    return np.stack(np.unravel_index(cells, shape), axis=1).astype(np.int32)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("dtype", ["<i2", "<i4"])
def test_sites_are_widened_and_their_order_is_told(
    shape: tuple[int, ...], count: int, dtype: str
) -> None:
    shuffled = sites(count, shape)
    ordered = shuffled[np.lexsort(shuffled.T[::-1])]
    for rows in (shuffled, ordered):
        data = at_odd_address(rows.astype(dtype).tobytes())
        coords, canonical = _native.read_sites(data, np.dtype(dtype).itemsize, shape)
        assert coords.dtype == np.int32
        np.testing.assert_array_equal(coords[:, 1:], rows)
        assert not coords[:, 0].any()
        assert canonical == np.array_equal(rows, ordered)


def test_a_site_twice_is_not_canonical() -> None:
    rows = np.array([[1, 2], [1, 2]], "<i4")
    assert _native.read_sites(rows.view(np.uint8).reshape(-1), 4, (5, 5))[1] is False


@pytest.mark.parametrize("row", [(5, 0), (0, 5), (-1, 0), (0, -32768)])
def test_a_site_outside_the_grid_is_named(row: tuple[int, int]) -> None:
    rows = np.array([(0, 0), row], "<i2")
    with pytest.raises(_native.InvalidArgument, match="row 1"):
        _native.read_sites(rows.view(np.uint8).reshape(-1), 2, (5, 5))


@pytest.mark.parametrize("count", [*COUNTS, 5000])
def test_floats_are_copied_to_a_cache_line_and_checked(count: int) -> None:
    values = np.random.default_rng(0).normal(size=(count, 3)).astype("<f4")
    read, first_bad = _native.read_floats(at_odd_address(values.tobytes()), 3)
    np.testing.assert_array_equal(read, values)
    assert (first_bad, read.ctypes.data % 64) == (-1, 0)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", [[0], [4095], [4096, 9000], [14999]])
def test_the_first_value_that_is_not_finite_is_found(bad: float, where: list[int]) -> None:
    values = np.zeros(15000, "<f4")
    values[where] = bad
    read, first_bad = _native.read_floats(values.view(np.uint8), 3)
    assert first_bad == where[0]
    np.testing.assert_array_equal(read.reshape(-1), values)


def test_bytes_that_are_no_whole_rows_are_refused() -> None:
    data = np.zeros(13, np.uint8)
    with pytest.raises(_native.InvalidArgument, match="multiple of 4 bytes, got 13"):
        _native.read_sites(data, 2, (5, 5))
    with pytest.raises(_native.InvalidArgument, match="multiple of 12 bytes, got 13"):
        _native.read_floats(data, 3)
    with pytest.raises(_native.InvalidArgument, match="index_bytes: expected 2 or 4, got 3"):
        _native.read_sites(data, 3, (5, 5))
    with pytest.raises(_native.InvalidArgument, match="columns: expected at least 1, got 0"):
        _native.read_floats(data, 0)


def test_memory_that_comes_back_never_belongs_to_two_arrays() -> None:
    """Sizes around those that are kept for the next array, from several threads at once."""
    sizes = [1, 16_383, 16_384, 16_385, 20_480, 20_481, 100_000, 165_056, 4_194_304, 4_194_305]

    def fill_and_check(seed: int) -> bool:
        rng = np.random.default_rng(seed)
        kept: list[tuple[NDArray[np.float32], float]] = []
        for step in range(60):
            value = float(seed * 1000 + step)
            data = np.full(int(rng.choice(sizes)), value, "<f4").view(np.uint8)
            kept.append((_native.read_floats(data, 1)[0], value))
            if len(kept) > 3:
                array, expected = kept.pop(int(rng.integers(len(kept))))
                if not (array == expected).all():
                    return False
        return all(bool((array == expected).all()) for array, expected in kept)

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(fill_and_check, range(8)))
