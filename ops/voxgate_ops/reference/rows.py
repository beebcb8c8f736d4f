# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Gathering and reducing rows by an index that may be -1."""

from __future__ import annotations

import torch
from torch import Tensor

from voxgate_ops.reference._checks import (
    MAX_SITES,
    check_index,
    check_mode,
    check_row_vector,
    check_rows,
)
from voxgate_ops.reference._precision import in_float32

REDUCE_MODES = ("sum", "mean", "max", "first")


def gather_rows(x: Tensor, row: Tensor, fill: float = 0.0) -> Tensor:
    """`[P, C]`: `x[row[p]]`, rows of `fill` where row is -1. x `[V, C]`, row int32 `[P]`.

    Raises ValueError for a row outside [-1, V).
    """
    check_rows(x, name="x")
    check_row_vector(row, row.shape[0] if row.dim() else 0, "row")
    check_index(row, x.shape[0], "row")
    out = torch.full((row.shape[0], x.shape[1]), fill, dtype=x.dtype, device=x.device)
    present = (row >= 0).nonzero()[:, 0]
    return out.index_copy(0, present, x.index_select(0, row.index_select(0, present)))


@in_float32
def reduce_rows(x: Tensor, row: Tensor, num_outputs: int, mode: str) -> Tensor:
    """`[num_outputs, C]`: reduces every `x[p]` with `row[p] == v`, p ascending; none gives 0.

    x `[P, C]`, row int32 `[P]` (-1 is dropped). mode is sum, mean, max (NaN propagates) or first
    (lowest p). Raises ValueError for a row outside [-1, num_outputs).
    """
    check_mode(mode, REDUCE_MODES)
    check_rows(x, name="x")
    check_row_vector(row, x.shape[0], "row")
    if not 0 <= num_outputs <= MAX_SITES:
        raise ValueError(f"num_outputs {num_outputs} is outside [0, {MAX_SITES}]")
    check_index(row, num_outputs, "row")
    kept = (row >= 0).nonzero()[:, 0]
    index = row.index_select(0, kept).long()
    x = x.index_select(0, kept)
    out = torch.zeros(num_outputs, x.shape[1], dtype=x.dtype, device=x.device)
    if mode == "max":
        expanded = index.unsqueeze(1).expand_as(x)
        return out.scatter_reduce(0, expanded, x, "amax", include_self=False)
    if mode == "first":
        number = torch.arange(index.numel(), device=x.device)
        first = torch.full((num_outputs,), index.numel(), device=x.device)
        first = first.scatter_reduce(0, index, number, "amin")
        filled = (first < index.numel()).nonzero()[:, 0]
        return out.index_copy(0, filled, x.index_select(0, first.index_select(0, filled)))
    out = out.index_add(0, index, x)
    if mode == "mean":
        count = torch.bincount(index, minlength=num_outputs).clamp(min=1)
        out = out / count.unsqueeze(1).to(out.dtype)
    return out
