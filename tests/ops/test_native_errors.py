# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""What the bindings refuse, how they say it, and how arrays cross the border."""

from __future__ import annotations

import gc
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from voxgate_ops import _native as native
from voxgate_ops import reference
from voxgate_ops.reference import _checks

SITES = np.array([[0, 1, 2], [0, 2, 3], [1, 0, 0]], dtype=np.int32)
ROWS = np.arange(6, dtype=np.float32).reshape(3, 2)
PAIRS = np.array([[0, 1, 2], [-1, 0, 1]], dtype=np.int32)
WEIGHT = np.ones([2, 2, 4], dtype=np.float32)
FRAME = np.zeros(3, dtype=np.int32)
POINTS = np.zeros([3, 3], dtype=np.float32)
GRID = ([0.0] * 3 + [4.0] * 3, [1.0] * 3)
BOXES = np.zeros([3, 7], dtype=np.float32)
SCORES = np.zeros(3, dtype=np.float32)


def i32(*rows: Any) -> Any:
    return np.array(rows, dtype=np.int32)


REFUSED: list[tuple[str, Callable[[], Any], list[str]]] = [
    ("rank", lambda: native.sort_sites(SITES[0], [5, 5]), ["coords", "[3]"]),
    ("axes", lambda: native.sort_sites(SITES, [5, 5, 5]), ["coords", "[3, 3]"]),
    ("no axis", lambda: native.sort_sites(SITES[:, :1].copy(), []), ["spatial_shape"]),
    ("size 0", lambda: native.sort_sites(SITES, [5, 0]), ["0"]),
    ("key overflow", lambda: native.sort_sites(SITES, [2**31 - 1, 2**31 - 1]), ["2147483647"]),
    ("outside", lambda: native.sort_sites(i32([0, 5, 0]), [5, 5]), ["5"]),
    ("negative", lambda: native.sort_sites(i32([0, 0, -1]), [5, 5]), ["-1"]),
    ("negative batch", lambda: native.sort_sites(i32([-7, 0, 0]), [5, 5]), ["-7"]),
    ("duplicate", lambda: native.sort_sites(i32([0, 3, 4], [0, 3, 4]), [5, 5]), ["3, 4"]),
    ("policy", lambda: native.sort_sites(SITES, [5, 5], "last"), ["duplicates", "last"]),
    ("order", lambda: native.check_canonical(i32([0, 2, 0], [0, 1, 0]), [5, 5]), ["1"]),
    ("query", lambda: native.find_sites(SITES, i32([0, 1])), ["query", "[1, 2]"]),
    (
        "even submanifold kernel",
        lambda: native.submanifold_rulebook(SITES, [5, 5], [3, 2], [1, 1]),
        ["2"],
    ),
    (
        "kernel axes",
        lambda: native.submanifold_rulebook(SITES, [5, 5], [3], [1, 1]),
        ["kernel_size", "[3]"],
    ),
    (
        "unsorted sites",
        lambda: native.submanifold_rulebook(SITES[::-1].copy(), [5, 5], [3, 3], [1, 1]),
        ["1"],
    ),
    (
        "stride 0",
        lambda: native.sparse_rulebook(SITES, [5, 5], [3, 3], [0, 1], [0, 0], [1, 1]),
        ["stride"],
    ),
    (
        "no output",
        lambda: native.sparse_rulebook(SITES, [5, 5], [7, 3], [1, 1], [0, 0], [1, 1]),
        ["[5, 5]"],
    ),
    (
        "output_padding",
        lambda: native.sparse_rulebook(SITES, [5, 5], [3, 3], [2, 2], [0, 0], [1, 1], True, [2, 0]),
        ["output_padding", "2"],
    ),
    ("neighbor", lambda: native.inverse_rulebook(i32([3]), 3), ["3"]),
    ("two outputs", lambda: native.inverse_rulebook(i32([0, 0]), 3), ["0"]),
    ("inputs", lambda: native.inverse_rulebook(PAIRS, -1), ["num_inputs", "-1"]),
    ("features", lambda: native.sparse_conv(ROWS[:, :1].copy(), PAIRS, WEIGHT), ["features"]),
    ("neighbor row", lambda: native.sparse_conv(ROWS, i32([3], [0]), WEIGHT), ["3"]),
    ("neighbor below", lambda: native.sparse_conv(ROWS, i32([-2], [0]), WEIGHT), ["-2"]),
    ("volume", lambda: native.sparse_conv(ROWS, PAIRS[:1].copy(), WEIGHT), ["neighbors"]),
    ("groups", lambda: native.sparse_conv(ROWS, PAIRS, WEIGHT, groups=0), ["groups 0"]),
    ("bias", lambda: native.sparse_conv(ROWS, PAIRS, WEIGHT, ROWS[0]), ["bias", "[4]", "[2]"]),
    (
        "residual",
        lambda: native.sparse_conv(ROWS, PAIRS, WEIGHT, None, ROWS),
        ["residual", "[3, 4]", "[3, 2]"],
    ),
    (
        "activation",
        lambda: native.sparse_conv(ROWS, PAIRS, WEIGHT, activation="swish"),
        ["swish", "relu"],
    ),
    ("pool mode", lambda: native.sparse_pool(ROWS, PAIRS, "min"), ["min", "max"]),
    ("pool neighbor", lambda: native.sparse_pool(ROWS, i32([9]), "max"), ["9"]),
    ("frame", lambda: native.sparse_global_pool(ROWS, SITES, 1, "max"), ["1"]),
    ("batch_size", lambda: native.sparse_global_pool(ROWS, SITES, -1, "max"), ["-1"]),
    ("dense site", lambda: native.sparse_to_dense(SITES, ROWS, 2, [3, 3]), ["3"]),
    ("dense frame", lambda: native.sparse_to_dense(SITES, ROWS, 1, [5, 5]), ["1"]),
    ("dense rank", lambda: native.dense_to_sparse(ROWS), ["[3, 2]"]),
    (
        "channels",
        lambda: native.sparse_union(SITES, ROWS, SITES, ROWS[:, :1].copy(), "sum"),
        ["2", "1"],
    ),
    ("gather", lambda: native.gather_rows(ROWS, i32(3)), ["3"]),
    ("fill", lambda: native.gather_rows(SITES, i32(0), 0.5), ["0.5"]),
    ("reduce", lambda: native.reduce_rows(ROWS, i32(0, 1, 5), 5, "sum"), ["5"]),
    ("outputs", lambda: native.reduce_rows(ROWS, i32(0, 1, 5), -3, "sum"), ["-3"]),
    ("grid", lambda: native.voxelize(POINTS, FRAME, [0.0] * 6, [1.0] * 3), ["0"]),
    ("grid values", lambda: native.voxelize(POINTS, FRAME, [0.0] * 5, [1.0] * 3), ["5"]),
    ("columns", lambda: native.voxelize(ROWS, FRAME, *GRID), ["points", "3", "2"]),
    ("batch row", lambda: native.voxelize(POINTS, FRAME - 1, *GRID), ["-1"]),
    (
        "anchor",
        lambda: native.sparse_interpolate(
            ROWS, np.zeros([3, 4], np.int32), POINTS, FRAME, *GRID, anchor="middle"
        ),
        ["middle"],
    ),
    ("boxes", lambda: native.rotated_nms(BOXES[:, :6].copy(), SCORES, FRAME, 0.5), ["[*, 7]"]),
    ("scores", lambda: native.rotated_nms(BOXES, SCORES[:2], FRAME, 0.5), ["scores"]),
    ("threads", lambda: native.find_sites(SITES, SITES, threads=-1), ["threads -1"]),
    ("many threads", lambda: native.find_sites(SITES, SITES, threads=10**6), ["1000000"]),
]


@pytest.mark.parametrize(("call", "parts"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED])
def test_refused_with_the_values(call: Callable[[], Any], parts: list[str]) -> None:
    with pytest.raises(native.InvalidArgument) as error:
        call()
    assert all(part in str(error.value) for part in parts), str(error.value)
    assert isinstance(error.value, ValueError)


NONE = np.zeros([0, 4], dtype=np.int32)
TOO_LARGE: list[tuple[str, Callable[[], Any]]] = [
    ("dense", lambda: native.sparse_to_dense(NONE, POINTS[:0], 60_000, [1000, 1000, 1000])),
    ("kernel", lambda: native.submanifold_rulebook(SITES, [5, 5], [65, 65], [1, 1])),
    ("rows", lambda: native.reduce_rows(ROWS, FRAME, 2**40, "sum")),
    ("cells", lambda: native.inverse_rulebook(np.zeros([4096, 0], np.int32), 2**20)),
]


@pytest.mark.parametrize("call", [t[1] for t in TOO_LARGE], ids=[t[0] for t in TOO_LARGE])
def test_limit_exceeded(call: Callable[[], Any]) -> None:
    with pytest.raises(native.LimitExceeded):
        call()


@pytest.mark.parametrize(
    "coords",
    [SITES.astype(np.int64), np.asfortranarray(SITES), SITES[:, ::2], [[0, 1, 2]], None],
    ids=["int64", "column-major", "strided", "list", "none"],
)
def test_other_arrays_are_type_errors(coords: Any) -> None:
    """Never converted in silence: a wrong type would be a wrong answer."""
    with pytest.raises(TypeError):
        native.check_canonical(coords, [5, 5])


def test_read_only_arrays_are_welcome() -> None:
    frozen = SITES.copy()
    frozen.flags.writeable = False
    assert native.find_sites(frozen, frozen).tolist() == [0, 1, 2]


def test_outputs_are_owned_and_writable() -> None:
    """No copy on the way out: the array's base is the capsule that frees the memory."""
    coords, order, rank = native.sort_sites(SITES, [5, 5])
    for array in (coords, order, rank):
        assert array.flags.writeable
        assert array.flags.c_contiguous
        assert array.base is not None
        assert array.ctypes.data % 64 == 0
    kept = coords[1:]
    del coords, order, rank
    gc.collect()
    assert kept.tolist() == SITES[1:].tolist()


def test_the_interpreter_runs_on_during_a_call() -> None:
    """A long convolution in another thread leaves Python free to count."""
    rows = np.ones([20_000, 64], dtype=np.float32)
    pairs = np.tile(np.arange(20_000, dtype=np.int32), (125, 1))
    weight = np.ones([125, 64, 64], dtype=np.float32)
    done = threading.Event()

    def work() -> None:
        native.sparse_conv(rows, pairs, weight, threads=1)
        done.set()

    thread = threading.Thread(target=work)
    ticks = 0
    thread.start()
    while not done.is_set():
        time.sleep(0.001)
        ticks += 1
    thread.join()
    assert ticks > 10


def test_limits_are_those_of_the_reference(repository: Path) -> None:
    header = repository / "ops/native/rulebook/include/rulebook/shape.h"
    found = re.findall(r"kMax(\w+) = (?:int64_t\{1\} << (\d+)|(\d+));", header.read_text())
    limits = {name: 1 << int(shift) if shift else int(number) for name, shift, number in found}
    assert limits == {
        "Axes": _checks.MAX_AXES,
        "Sites": _checks.MAX_SITES,
        "RulebookCells": _checks.MAX_RULEBOOK_CELLS,
        "DenseElements": _checks.MAX_DENSE_ELEMENTS,
        "KernelVolume": _checks.MAX_KERNEL_VOLUME,
        "BatchSize": _checks.MAX_BATCH_SIZE,
    }


def test_names_are_those_of_the_reference() -> None:
    functions = {name for name in dir(native) if name[0].islower()}
    # What asks about the library, and what reads bytes from outside, are no operators.
    others = {"current_isa", "supported_isas", "read_floats", "read_sites"}
    assert functions - others <= set(reference.__all__)
