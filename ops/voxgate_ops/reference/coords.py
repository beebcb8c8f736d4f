# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Canonical order and site look-up."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from voxgate_ops.reference._checks import (
    MAX_BATCH_SIZE,
    check_coords,
    check_mode,
    check_spatial_shape,
)


def pack_keys(sites: Tensor, spatial_shape: Sequence[int]) -> Tensor:
    """One int64 per row of an in-range `[..., 1+D]` tensor, ordered as the rows are."""
    key = sites[..., 0].long()
    for axis, size in enumerate(spatial_shape):
        key = key * size + sites[..., 1 + axis].long()
    return key


def unpack_keys(keys: Tensor, spatial_shape: Sequence[int]) -> Tensor:
    """The inverse of `pack_keys`: int32 `[M, 1+D]`."""
    columns = []
    for size in reversed(spatial_shape):
        columns.append(keys % size)
        keys = torch.div(keys, size, rounding_mode="floor")
    columns.append(keys)
    return torch.stack(columns[::-1], dim=1).int()


def in_range(sites: Tensor, spatial_shape: Sequence[int]) -> Tensor:
    """bool: which rows of `[..., 1+D]` lie in the grid (the batch column is not looked at)."""
    size = torch.tensor(list(spatial_shape), dtype=torch.int64, device=sites.device)
    spatial = sites[..., 1:].long()
    return ((spatial >= 0) & (spatial < size)).all(dim=-1)


def find_keys(sorted_keys: Tensor, query: Tensor) -> Tensor:
    """int32, shaped as `query`: the position of each query key in `sorted_keys`, or -1."""
    if sorted_keys.numel() == 0:
        return torch.full(query.shape, -1, dtype=torch.int32, device=query.device)
    position = torch.searchsorted(sorted_keys, query).clamp_(max=sorted_keys.numel() - 1)
    return torch.where(sorted_keys[position] == query, position, -1).int()


def group_rows(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Numbers equal rows alike, in lexicographic order of the rows.

    rows: integer `[N, columns]` of any values. Returns (group int64 `[N]`, first int64 `[G]`: the
    lowest row number of each group). Columns are replaced by their ranks before packing, so no
    value can overflow the key.
    """
    group = torch.zeros(rows.shape[0], dtype=torch.int64, device=rows.device)
    for column in rows.long().unbind(dim=1):
        distinct, rank = torch.unique(column, return_inverse=True)
        group = torch.unique(group * distinct.numel() + rank, return_inverse=True)[1]
    groups = int(group.max()) + 1 if group.numel() else 0
    number = torch.arange(rows.shape[0], device=rows.device)
    first = number.new_zeros(groups).scatter_reduce(0, group, number, "amin", include_self=False)
    return group, first


def _check_range(coords: Tensor, spatial_shape: Sequence[int]) -> None:
    bad = ~in_range(coords, spatial_shape) | (coords[:, 0] < 0) | (coords[:, 0] >= MAX_BATCH_SIZE)
    if bool(bad.any()):
        row = int(bad.nonzero()[0, 0])
        raise ValueError(
            f"coords[{row}] = {coords[row].tolist()} is outside spatial_shape "
            f"{list(spatial_shape)} (batch index in [0, {MAX_BATCH_SIZE}))"
        )


def check_canonical(coords: Tensor, spatial_shape: Sequence[int]) -> None:
    """Raises ValueError unless `coords` `[N, 1+D]` is sorted, unique and in range."""
    shape = check_spatial_shape(spatial_shape)
    check_coords(coords, len(shape))
    _check_range(coords, shape)
    keys = pack_keys(coords, shape)
    bad = keys[1:] <= keys[:-1]
    if bool(bad.any()):
        row = int(bad.nonzero()[0, 0]) + 1
        raise ValueError(
            f"coords[{row}] = {coords[row].tolist()} does not follow coords[{row - 1}] = "
            f"{coords[row - 1].tolist()} in canonical order"
        )


def sort_sites(
    coords: Tensor, spatial_shape: Sequence[int], duplicates: str = "error"
) -> tuple[Tensor, Tensor, Tensor]:
    """Brings sites into canonical order: by (batch, axis 0, …, axis D-1), unique.

    coords: int32 `[N, 1+D]`. Returns (coords `[M, 1+D]`, order int64 `[M]`: sorted row j is input
    row order[j], rank int64 `[N]`: input row i is sorted row rank[i]). Of equal sites
    `duplicates="first"` keeps the lowest input row, `"error"` raises ValueError; a site outside
    `spatial_shape` always does.
    """
    shape = check_spatial_shape(spatial_shape)
    check_mode(duplicates, ("error", "first"), "duplicates")
    check_coords(coords, len(shape))
    _check_range(coords, shape)
    distinct, rank = torch.unique(pack_keys(coords, shape), return_inverse=True)
    row = torch.arange(coords.shape[0], device=coords.device)
    order = row.new_zeros(distinct.numel()).scatter_reduce(0, rank, row, "amin", include_self=False)
    if duplicates == "error" and distinct.numel() != coords.shape[0]:
        again = int((order[rank] != row).nonzero()[0, 0])
        raise ValueError(
            f"coords[{again}] = {coords[again].tolist()} repeats coords[{int(order[rank[again]])}]"
        )
    return coords[order], order, rank


def find_sites(coords: Tensor, query: Tensor) -> Tensor:
    """int32 `[P]`: the row of canonical `coords` `[N, 1+D]` equal to each row of `query`, or -1.

    query: int32 `[P, 1+D]` in any order and of any values. Raises ValueError for wrong shapes.
    """
    axes = check_coords(coords)
    check_coords(query, axes, "query")
    group, _ = group_rows(torch.cat([coords, query]))
    rows = coords.shape[0]
    groups = int(group.max()) + 1 if group.numel() else 0
    row_of_group = torch.full((groups,), -1, dtype=torch.int32, device=coords.device)
    row_of_group[group[:rows]] = torch.arange(rows, dtype=torch.int32, device=coords.device)
    return row_of_group[group[rows:]]
