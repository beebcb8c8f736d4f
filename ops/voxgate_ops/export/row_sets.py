# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Compares rows that values chose (sites above a threshold, detections): as sets, not in order."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Match:
    """`unmatched`: the share of rows of either set that the other lacks; `gaps`: the largest
    difference between counterparts, an array each."""

    unmatched: float
    gaps: list[float]


def match_rows(found: Sequence[Array], expected: Sequence[Array], limits: Sequence[float]) -> Match:
    """Match rows whose integers are equal and whose floats differ by at most their array's limit.

    The arrays of one side have a row each for the same things, [R] or [R, …]; `limits` has a number
    for every array.
    """
    gaps = [0.0] * len(limits)
    shares = []
    for rows, others in ((found, expected), (expected, found)):
        places = _places(others)
        lacking = 0
        keys = _keys(rows)
        for row, key in enumerate(keys):
            counterpart = _nearest(rows, row, others, places.get(key, []), limits)
            if counterpart is None:
                lacking += 1
                continue
            for i, (a, b) in enumerate(zip(rows, others, strict=True)):
                gaps[i] = max(gaps[i], float(_gaps(a[row], b[[counterpart]])[0]))
        shares.append(lacking / max(len(keys), 1))
    return Match(max(shares), gaps)


def _table(array: Array) -> Array:
    """A row for each of the array's, which reshape(-1) cannot make of no rows."""
    return array.reshape(len(array), int(np.prod(array.shape[1:])))


def _keys(arrays: Sequence[Array]) -> list[bytes]:
    """The integers of each row."""
    rows = len(arrays[0])
    integers = [_table(a).astype(np.int64) for a in arrays if a.dtype.kind != "f"]
    if not integers:
        return [b""] * rows
    return [row.tobytes() for row in np.concatenate(integers, axis=1)]


def _places(arrays: Sequence[Array]) -> dict[bytes, list[int]]:
    places: dict[bytes, list[int]] = defaultdict(list)
    for row, key in enumerate(_keys(arrays)):
        places[key].append(row)
    return places


def _nearest(
    rows: Sequence[Array],
    row: int,
    others: Sequence[Array],
    places: list[int],
    limits: Sequence[float],
) -> int | None:
    """Of the rows at `places` the one whose largest difference, in limits, is the smallest."""
    if not places:
        return None
    worst = np.zeros(len(places))
    for a, b, limit in zip(rows, others, limits, strict=True):
        if a.dtype.kind == "f":
            worst = np.maximum(worst, _gaps(a[row], b[places]) / max(limit, 1e-30))
    best = int(worst.argmin())
    return places[best] if worst[best] <= 1.0 else None


def _gaps(one: Array, many: Array) -> Array:
    """The largest difference of each row of `many` from `one`; infinite where it is no number."""
    many = _table(many).astype(np.float64)
    wanted = np.asarray(one, np.float64).reshape(1, -1)
    with np.errstate(invalid="ignore"):
        gap = np.nan_to_num(np.abs(many - wanted), nan=np.inf)
    gap[(many == wanted) | (np.isnan(many) & np.isnan(wanted))] = 0.0
    largest: Array = gap.max(axis=1, initial=0.0)
    return largest
