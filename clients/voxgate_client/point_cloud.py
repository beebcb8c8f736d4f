# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""What a point-cloud file becomes in memory, and the error every reader raises."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

# Above this a header is taken for a lie: the largest sensors give a few million points a sweep,
# and what a reader allocates must be bounded before a count from a file is believed.
MAX_POINTS = 1 << 27
MAX_FIELDS = 256
MAX_HEADER_BYTES = 1 << 16


class ReaderError(ValueError):
    """A file that is not the point cloud it claims to be.

    The message names the file, the value found and the value or limit expected.
    """

    def __init__(self, path: Path, message: str) -> None:
        super().__init__(f"{path}: {message}")
        self.path = path


@dataclass(frozen=True)
class PointCloud:
    """Points and the names of their columns.

    Attributes:
        points: float32 `[N, F]`, C-contiguous, F >= 3; columns 0, 1, 2 are x, y, z in metres.
        fields: F names; the first three are "x", "y", "z".
    """

    points: NDArray[np.float32]
    fields: tuple[str, ...]

    def select(self, names: Sequence[str], fill: float | None = None) -> NDArray[np.float32]:
        """Returns the columns a model asks for, float32 `[N, len(names)]`.

        Args:
            names: the model's feature names, in its order.
            fill: value for a column the cloud does not have; None makes that an error.

        Raises:
            KeyError: a name is not among `fields` and `fill` is None.
        """
        if tuple(names) == self.fields:
            return self.points
        missing = [name for name in names if name not in self.fields]
        if missing and fill is None:
            raise KeyError(
                f"no column {', '.join(missing)}: the points have {', '.join(self.fields)}"
            )
        selected = np.empty((len(self.points), len(names)), np.float32)
        for column, name in enumerate(names):
            if name in self.fields:
                selected[:, column] = self.points[:, self.fields.index(name)]
            else:
                selected[:, column] = fill
        return selected


def check_counts(path: Path, num_points: int, num_fields: int) -> None:
    """Refuses counts from a header before anything is allocated for them."""
    if not 0 <= num_points <= MAX_POINTS:
        raise ReaderError(path, f"{num_points} points, expected 0 to {MAX_POINTS}")
    if not 0 <= num_fields <= MAX_FIELDS:
        raise ReaderError(path, f"{num_fields} fields per point, expected 3 to {MAX_FIELDS}")


def cloud_from_columns(
    path: Path, names: Sequence[str], columns: Sequence[NDArray[np.generic]]
) -> PointCloud:
    """Stacks named columns with x, y, z first; the others keep their order."""
    lower = [name.lower() for name in names]
    absent = [axis for axis in "xyz" if axis not in lower]
    if absent:
        found = ", ".join(names) or "none"
        raise ReaderError(path, f"no field {', '.join(absent)}, found {found}")
    if len(set(lower)) != len(lower):
        raise ReaderError(path, f"field names repeat: {', '.join(names)}")
    order = [lower.index(axis) for axis in "xyz"]
    order += [i for i in range(len(names)) if i not in order]
    check_counts(path, len(columns[0]), len(columns))
    points = np.empty((len(columns[0]), len(columns)), np.float32)
    for target, source in enumerate(order):
        # A float64 beyond float32's range becomes inf, which is what a consumer can check for.
        with np.errstate(over="ignore"):
            points[:, target] = columns[source]
    return PointCloud(points, tuple("xyz"[t] if t < 3 else names[s] for t, s in enumerate(order)))
