# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Gradients of every differentiable reference operator, in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from voxgate_ops import reference

SHAPE = [4, 5]


@pytest.fixture
def coords() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return (torch.rand([2, *SHAPE], generator=generator) < 0.4).nonzero().int()


def rows(count: int, channels: int, seed: int = 1) -> Tensor:
    """Values no two of which are equal, so that max has a gradient."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(count, channels, dtype=torch.float64, generator=generator)
    return values.requires_grad_()


def gradcheck(function: Callable[..., Any], *inputs: Tensor) -> None:
    assert torch.autograd.gradcheck(function, inputs)


@pytest.mark.parametrize("activation", reference.ACTIVATIONS)
@pytest.mark.parametrize("groups", [1, 2])
def test_sparse_conv(coords: Tensor, activation: str, groups: int) -> None:
    _, neighbors = reference.sparse_rulebook(coords, SHAPE, [2, 3], [2, 1], [1, 0], [1, 1])
    weight = rows(6 * 4 // groups, 4).detach().reshape(6, 4 // groups, 4).requires_grad_()
    residual = rows(neighbors.shape[1], 4, seed=2)
    gradcheck(
        lambda x, w, b, r: reference.sparse_conv(x, neighbors, w, b, r, groups, activation, 0.1),
        rows(len(coords), 4),
        weight,
        rows(1, 4, seed=3).detach()[0].requires_grad_(),
        residual,
    )


def test_second_derivatives(coords: Tensor) -> None:
    neighbors = reference.submanifold_rulebook(coords, SHAPE, [3, 1], [1, 1])
    weight = rows(6, 3).detach().reshape(3, 2, 3).requires_grad_()
    assert torch.autograd.gradgradcheck(
        lambda x, w: reference.sparse_conv(x, neighbors, w, activation="sigmoid"),
        (rows(len(coords), 2), weight),
    )


@pytest.mark.parametrize("mode", reference.POOL_MODES)
def test_pooling(coords: Tensor, mode: str) -> None:
    _, neighbors = reference.sparse_rulebook(coords, SHAPE, [2, 2], [2, 2], [0, 0], [1, 1])
    features = rows(len(coords), 3)
    gradcheck(lambda x: reference.sparse_pool(x, neighbors, mode), features)
    gradcheck(lambda x: reference.sparse_global_pool(x, coords, 3, mode), features)


def test_dense(coords: Tensor) -> None:
    features = rows(len(coords), 3)
    gradcheck(lambda x: reference.sparse_to_dense(coords, x, 2, SHAPE), features)
    dense = reference.sparse_to_dense(coords, features, 2, SHAPE).detach().requires_grad_()
    gradcheck(lambda x: reference.dense_to_sparse(x, 0.01)[1], dense)


@pytest.mark.parametrize("mode", ["sum", "concat"])
def test_union(coords: Tensor, mode: str) -> None:
    a, b = coords[::2], coords[1:]
    gradcheck(
        lambda x, y: reference.sparse_union(a, x, b, y, mode)[1], rows(len(a), 2), rows(len(b), 2)
    )


@pytest.mark.parametrize("mode", reference.REDUCE_MODES)
def test_rows(mode: str) -> None:
    row = torch.tensor([2, -1, 0, 2, 2, 0], dtype=torch.int32)
    gradcheck(lambda x: reference.reduce_rows(x, row, 4, mode), rows(6, 3))
    gradcheck(lambda x: reference.gather_rows(x, row, 1.0), rows(3, 3))


@pytest.mark.parametrize("mode", ["nearest", "trilinear"])
def test_interpolate(coords: Tensor, mode: str) -> None:
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(12, 2, generator=generator) * 4
    batch = torch.arange(12, dtype=torch.int32) % 2
    grid = ([0.0, 0.0, 5.0, 4.0], [1.0, 1.0])
    gradcheck(
        lambda x: reference.sparse_interpolate(x, coords, points, batch, *grid, mode),
        rows(len(coords), 3),
    )


@pytest.mark.parametrize("reduce", reference.REDUCE_MODES)
def test_voxelize(reduce: str) -> None:
    """All columns are reduced, so all carry gradients; positions are far from voxel borders."""
    points = torch.tensor([[0.4, 0.3], [0.6, 0.2], [1.5, 0.5], [9.0, 0.5]], dtype=torch.float64)
    batch = torch.zeros(4, dtype=torch.int32)
    gradcheck(
        lambda p: reference.voxelize(p, batch, [0, 0, 2, 1], [1, 1], reduce)[1],
        points.requires_grad_(),
    )
