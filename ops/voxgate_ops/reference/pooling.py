# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Pooling over active inputs only."""

from __future__ import annotations

import torch
from torch import Tensor

from voxgate_ops.reference._checks import (
    check_batch_size,
    check_coords,
    check_mode,
    check_neighbors,
    check_rows,
)
from voxgate_ops.reference._precision import in_float32

POOL_MODES = ("max", "avg", "sum")


@in_float32
def sparse_pool(features: Tensor, neighbors: Tensor, mode: str) -> Tensor:
    """Max, average or sum over the active inputs of each output: `[M, C]`.

    features `[N, C]`, neighbors int32 `[K, M]`. An output without pairs is 0; NaN propagates
    through max. Raises ValueError for neighbors outside [-1, N).
    """
    check_mode(mode, POOL_MODES)
    check_rows(features)
    check_neighbors(neighbors, features.shape[0])
    outputs = neighbors.shape[1]
    count = (neighbors >= 0).sum(dim=0).unsqueeze(1)
    start = float("-inf") if mode == "max" else 0.0
    out = torch.full(
        (outputs, features.shape[1]), start, dtype=features.dtype, device=features.device
    )
    for rows in neighbors:
        paired = (rows >= 0).nonzero()[:, 0]
        gathered = features.index_select(0, rows.index_select(0, paired))
        if mode == "max":
            best = torch.maximum(out.index_select(0, paired), gathered)
            out = out.index_copy(0, paired, best)
        else:
            out = out.index_add(0, paired, gathered)
    if mode == "avg":
        out = out / count.clamp(min=1).to(out.dtype)
    return torch.where(count > 0, out, torch.zeros_like(out))


@in_float32
def sparse_global_pool(features: Tensor, coords: Tensor, batch_size: int, mode: str) -> Tensor:
    """Max, average or sum over the sites of each frame: `[batch_size, C]`; an empty frame is 0.

    features `[N, C]`, coords int32 `[N, 1+D]` sorted by batch index. Raises ValueError when they
    are not, or when a batch index is outside [0, batch_size).
    """
    check_mode(mode, POOL_MODES)
    check_coords(coords)
    check_rows(features, coords.shape[0])
    batch_size = check_batch_size(batch_size)
    batch = coords[:, 0].long()
    if batch.numel() and (int(batch.min()) < 0 or int(batch.max()) >= batch_size):
        raise ValueError(
            f"coords: batch indices {int(batch.min())}..{int(batch.max())} are outside [0, "
            f"{batch_size})"
        )
    if bool((batch[1:] < batch[:-1]).any()):
        raise ValueError("coords: rows are not sorted by batch index")
    out = torch.zeros(batch_size, features.shape[1], dtype=features.dtype, device=features.device)
    if mode == "max":
        index = batch.unsqueeze(1).expand_as(features)
        return out.scatter_reduce(0, index, features, "amax", include_self=False)
    out = out.index_add(0, batch, features)
    if mode == "avg":
        count = torch.bincount(batch, minlength=batch_size).clamp(min=1)
        out = out / count.unsqueeze(1).to(out.dtype)
    return out
