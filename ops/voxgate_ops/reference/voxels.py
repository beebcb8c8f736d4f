# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Points into voxels, and features of voxels back to points.

`point_range` is (lo_x, lo_y, lo_z, hi_x, hi_y, hi_z) and `voxel_size` (x, y, z): point order, the
reverse of coords order. One to four axes work alike.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from voxgate_ops.reference._checks import (
    MAX_AXES,
    MAX_BATCH_SIZE,
    check_coords,
    check_index,
    check_mode,
    check_row_vector,
    check_rows,
    check_spatial_shape,
)
from voxgate_ops.reference._precision import in_float32
from voxgate_ops.reference.coords import find_sites, pack_keys, unpack_keys
from voxgate_ops.reference.rows import REDUCE_MODES, gather_rows, reduce_rows

# Cell indices beyond this are no legal site and would not survive the conversion to int32.
_FARTHEST_CELL = float(1 << 30)


def grid_shape(point_range: Sequence[float], voxel_size: Sequence[float]) -> list[int]:
    """`round((hi - lo) / voxel_size)` per axis, in spatial_shape order.

    Raises ValueError unless all values are finite, hi > lo and voxel_size > 0.
    """
    axes = len(voxel_size)
    if not 1 <= axes <= MAX_AXES or len(point_range) != 2 * axes:
        raise ValueError(
            f"point_range {list(point_range)} and voxel_size {list(voxel_size)}: expected 2·D and "
            f"D values with D in 1..{MAX_AXES}"
        )
    # The operators hold these as float32 attributes; the rounding below must start from the same.
    low, high, size = (
        torch.tensor(list(values), dtype=torch.float32).double().tolist()
        for values in (point_range[:axes], point_range[axes:], voxel_size)
    )
    if not all(map(math.isfinite, low + high + size)):
        raise ValueError(
            f"point_range {list(point_range)}, voxel_size {list(voxel_size)}: not finite"
        )
    for lo, hi, edge in zip(low, high, size, strict=True):
        if hi <= lo or edge <= 0:
            raise ValueError(
                f"point_range {list(point_range)}, voxel_size {list(voxel_size)}: every axis needs "
                "hi > lo and voxel_size > 0"
            )
    cells = [
        math.floor((hi - lo) / edge + 0.5) for lo, hi, edge in zip(low, high, size, strict=True)
    ]
    return check_spatial_shape(cells[::-1])


def _cell_position(
    points: Tensor, point_range: Sequence[float], voxel_size: Sequence[float]
) -> Tensor:
    """`(p - lo) / voxel_size` in float32, columns in coords order: `[P, D]`."""
    axes = len(voxel_size)
    low = torch.tensor(list(point_range[:axes]), dtype=torch.float32, device=points.device)
    size = torch.tensor(list(voxel_size), dtype=torch.float32, device=points.device)
    return ((points[:, :axes].float() - low) / size).flip(1)


def _check_points(points: Tensor, point_batch: Tensor, axes: int) -> None:
    check_rows(points, name="points")
    if points.shape[1] < axes:
        raise ValueError(f"points: expected at least {axes} columns, got {points.shape[1]}")
    check_row_vector(point_batch, points.shape[0], "point_batch")
    check_index(point_batch, MAX_BATCH_SIZE, "point_batch", lowest=0)


def voxelize(
    points: Tensor,
    point_batch: Tensor,
    point_range: Sequence[float],
    voxel_size: Sequence[float],
    reduce: str = "mean",
    max_points: int = 0,
    max_voxels: int = 0,
) -> tuple[Tensor, Tensor, Tensor]:
    """(coords int32 `[V, 1+D]`, canonical; features `[V, F]`; point_voxel int32 `[P]`).

    points `[P, F]` (columns 0 … D-1 are x, y, z), point_batch int32 `[P]`. index = floor((p - lo) /
    voxel_size) in float32; a point is kept iff 0 <= index < `grid_shape` on every axis, so NaN is
    out of range. All F columns are reduced (mean, max, sum or first) in point order. `max_points`
    reduces only a voxel's first points (later ones keep their point_voxel); `max_voxels` counts per
    batch index by first appearance, and points of dropped voxels get -1. 0 means all. Raises
    ValueError for options out of range and a batch index below 0.
    """
    shape = grid_shape(point_range, voxel_size)
    check_mode(reduce, REDUCE_MODES, "reduce")
    if max_points < 0 or max_voxels < 0:
        raise ValueError(f"max_points {max_points} and max_voxels {max_voxels} must be >= 0")
    _check_points(points, point_batch, len(shape))
    cell = torch.floor(_cell_position(points, point_range, voxel_size))
    size = torch.tensor(shape, dtype=torch.float32, device=points.device)
    inside = ((cell >= 0) & (cell < size)).all(dim=1).nonzero()[:, 0]  # point numbers, ascending
    site = torch.cat([point_batch[inside].unsqueeze(1), cell[inside].int()], dim=1)
    keys, voxel = torch.unique(pack_keys(site, shape), return_inverse=True)
    if max_voxels:
        keys, voxel, inside = _drop_late_voxels(keys, voxel, inside, shape, max_voxels)
    point_voxel = torch.full((points.shape[0],), -1, dtype=torch.int32, device=points.device)
    point_voxel[inside] = voxel.int()
    reduced = point_voxel
    if max_points:
        beyond = inside[_number_in_group(voxel) >= max_points]
        reduced = point_voxel.index_fill(0, beyond, -1)
    features = reduce_rows(points, reduced, keys.numel(), reduce)
    return unpack_keys(keys, shape), features, point_voxel


def _number_in_group(group: Tensor) -> Tensor:
    """How many earlier elements carry the same group number."""
    by_group = torch.argsort(group, stable=True)
    sorted_group = group[by_group]
    start = torch.searchsorted(sorted_group, sorted_group)
    number = torch.empty_like(group)
    number[by_group] = torch.arange(group.numel(), device=group.device) - start
    return number


def _drop_late_voxels(
    keys: Tensor, voxel: Tensor, inside: Tensor, shape: Sequence[int], max_voxels: int
) -> tuple[Tensor, Tensor, Tensor]:
    position = torch.arange(voxel.numel(), device=voxel.device)
    first = position.new_zeros(keys.numel()).scatter_reduce(
        0, voxel, position, "amin", include_self=False
    )
    by_appearance = torch.argsort(first)
    batch = torch.div(keys, math.prod(shape), rounding_mode="floor")
    kept = torch.zeros(keys.numel(), dtype=torch.bool, device=keys.device)
    kept[by_appearance] = _number_in_group(batch[by_appearance]) < max_voxels
    renumbered = torch.cumsum(kept, 0) - 1
    point_kept = kept[voxel]
    return keys[kept], renumbered[voxel[point_kept]], inside[point_kept]


@in_float32
def sparse_interpolate(
    features: Tensor,
    coords: Tensor,
    points: Tensor,
    point_batch: Tensor,
    point_range: Sequence[float],
    voxel_size: Sequence[float],
    mode: str = "trilinear",
    anchor: str = "center",
    normalize: bool = True,
) -> Tensor:
    """`[P, C]`: features of canonical sites sampled at points.

    features `[N, C]`, coords int32 `[N, 1+D]`, points float32 `[P, >= D]`, point_batch int32 `[P]`.
    A site's feature sits at `lo + (i + 0.5) * voxel_size` (anchor center) or `lo + i * voxel_size`
    (corner). trilinear weighs the 2^D sites around a point; absent ones drop out, and `normalize`
    divides by the weights present. A point with no site around, or not finite, gives 0.
    Differentiable in features. Raises ValueError for options and shapes that do not fit.
    """
    axes = len(grid_shape(point_range, voxel_size))
    check_mode(mode, ("nearest", "trilinear"))
    check_mode(anchor, ("center", "corner"), "anchor")
    check_coords(coords, axes)
    check_rows(features, coords.shape[0])
    _check_points(points, point_batch, axes)
    position = _cell_position(points, point_range, voxel_size)
    if mode == "nearest":
        nearest = torch.floor(position if anchor == "center" else position + 0.5)
        row = _find_cells(coords, point_batch, nearest)
        return gather_rows(features, row)
    if anchor == "center":
        position = position - 0.5
    return _interpolate_corners(features, coords, point_batch, position, bool(normalize))


def _find_cells(coords: Tensor, point_batch: Tensor, cell: Tensor) -> Tensor:
    """Rows of the sites at float cell indices `[P, D]`; -1 where absent or not finite."""
    near = (cell.abs() < _FARTHEST_CELL).all(dim=1)
    query = torch.where(near.unsqueeze(1), cell, -1.0).int()
    return find_sites(coords, torch.cat([point_batch.unsqueeze(1), query], dim=1))


def _interpolate_corners(
    features: Tensor, coords: Tensor, point_batch: Tensor, position: Tensor, normalize: bool
) -> Tensor:
    base = torch.floor(position)
    fraction = position - base
    out = features.new_zeros(position.shape[0], features.shape[1])
    total = features.new_zeros(position.shape[0], 1)
    for corner in itertools.product((0, 1), repeat=position.shape[1]):
        upper = torch.tensor(corner, dtype=torch.bool, device=position.device)
        row = _find_cells(coords, point_batch, base + upper)
        weight = torch.where(upper, fraction, 1 - fraction).prod(dim=1, keepdim=True)
        present = (row >= 0).nonzero()[:, 0]
        weight = weight.index_select(0, present).to(features.dtype)
        out = out.index_add(0, present, weight * features.index_select(0, row[present]))
        total = total.index_add(0, present, weight)
    if normalize:
        out = out / torch.where(total > 0, total, torch.ones_like(total))
    return out
