# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Argument checks shared by the reference operators. All raise ValueError with the values."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

# The limits of rulebook/shape.h: what one call may generate.
MAX_AXES = 4
MAX_SITES = 1 << 26
MAX_RULEBOOK_CELLS = 1 << 30
MAX_DENSE_ELEMENTS = 1 << 30
MAX_KERNEL_VOLUME = 4096
MAX_BATCH_SIZE = 1 << 16
MAX_AXIS_SIZE = 1 << 31


def check_coords(coords: Tensor, axes: int | None = None, name: str = "coords") -> int:
    """Checks that `coords` is int32 `[N, 1+D]` and returns D (which must be `axes` if given)."""
    if coords.dtype != torch.int32:
        raise ValueError(f"{name}: expected int32, got {coords.dtype}")
    if coords.dim() != 2 or not 2 <= coords.shape[1] <= 1 + MAX_AXES:
        raise ValueError(
            f"{name}: expected shape [N, 1+D] with D in 1..{MAX_AXES}, got {list(coords.shape)}"
        )
    got = coords.shape[1] - 1
    if axes is not None and got != axes:
        raise ValueError(f"{name}: expected {axes} spatial axes, got {got}")
    if coords.shape[0] > MAX_SITES:
        raise ValueError(f"{name}: {coords.shape[0]} sites pass the limit of {MAX_SITES}")
    return got


def check_spatial_shape(spatial_shape: Sequence[int]) -> list[int]:
    """Checks axis count, axis sizes and that a packed key fits int64; returns the list."""
    shape = [int(size) for size in spatial_shape]
    if not 1 <= len(shape) <= MAX_AXES:
        raise ValueError(f"spatial_shape {shape}: expected 1 to {MAX_AXES} axes, got {len(shape)}")
    if any(not 1 <= size < MAX_AXIS_SIZE for size in shape):
        raise ValueError(f"spatial_shape {shape}: every size must be in [1, {MAX_AXIS_SIZE})")
    if math.prod(shape) * MAX_BATCH_SIZE >= 1 << 63:
        raise ValueError(f"spatial_shape {shape}: a packed site key would overflow int64")
    return shape


def per_axis(values: Sequence[int], axes: int, name: str, least: int) -> list[int]:
    """Checks that `values` holds one int per axis, each in [least, 2^31)."""
    out = [int(value) for value in values]
    if len(out) != axes:
        raise ValueError(f"{name} {out}: expected {axes} values, got {len(out)}")
    if any(not least <= value < MAX_AXIS_SIZE for value in out):
        raise ValueError(f"{name} {out}: every value must be in [{least}, {MAX_AXIS_SIZE})")
    return out


def check_kernel_volume(kernel_size: Sequence[int]) -> int:
    volume = math.prod(kernel_size)
    if volume > MAX_KERNEL_VOLUME:
        raise ValueError(
            f"kernel_size {list(kernel_size)}: volume {volume} passes {MAX_KERNEL_VOLUME}"
        )
    return volume


def check_rows(features: Tensor, rows: int | None = None, name: str = "features") -> None:
    """Checks that `features` is 2-D, with `rows` rows if given."""
    if features.dim() != 2:
        raise ValueError(f"{name}: expected shape [rows, channels], got {list(features.shape)}")
    if rows is not None and features.shape[0] != rows:
        raise ValueError(f"{name}: expected {rows} rows, got {features.shape[0]}")


def check_index(index: Tensor, limit: int, name: str, lowest: int = -1) -> None:
    """Checks that every value of an integer tensor lies in [lowest, limit)."""
    if index.numel() == 0:
        return
    bad = (index < lowest) | (index >= limit)
    if bool(bad.any()):
        where = bad.nonzero()[0].tolist()
        value = int(index[tuple(where)])
        raise ValueError(f"{name}{where} is {value}, outside [{lowest}, {limit})")


def check_neighbors(neighbors: Tensor, num_inputs: int) -> None:
    if neighbors.dtype != torch.int32 or neighbors.dim() != 2:
        raise ValueError(
            f"neighbors: expected int32 [K, M], got {neighbors.dtype} {list(neighbors.shape)}"
        )
    check_index(neighbors, num_inputs, "neighbors")


def check_batch_size(batch_size: int) -> int:
    batch_size = int(batch_size)
    if not 0 <= batch_size <= MAX_BATCH_SIZE:
        raise ValueError(f"batch_size {batch_size} is outside [0, {MAX_BATCH_SIZE}]")
    return batch_size


def check_mode(mode: str, allowed: tuple[str, ...], name: str = "mode") -> None:
    if mode not in allowed:
        raise ValueError(f"{name} {mode!r}: expected one of {', '.join(allowed)}")


def check_row_vector(row: Tensor, rows: int, name: str) -> None:
    if row.dtype != torch.int32 or row.dim() != 1 or row.shape[0] != rows:
        raise ValueError(f"{name}: expected int32 [{rows}], got {row.dtype} {list(row.shape)}")
