# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""The reference on float16 and bfloat16 tensors: float32's results, rounded once."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from voxgate_ops import reference

GRID = [6, 8, 10]
RANGE, SIZE = [0.0, 0.0, 0.0, 10.0, 8.0, 6.0], [1.0, 1.0, 1.0]
low_types = pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=["fp16", "bf16"])

Operator = Callable[..., Tensor | tuple[Tensor, Tensor]]


def coords(seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand([2, *GRID], generator=generator) < 0.3).nonzero().int()


def values(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def sites_with_other(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    return reference.sparse_union(coords(), a, coords(7), b, "sum")


SITES = coords()
NEIGHBORS = reference.submanifold_rulebook(SITES, GRID, [3, 3, 3], [1, 1, 1])
ROWS = torch.randint(-1, 40, (len(SITES),), generator=torch.Generator().manual_seed(2)).int()
POINTS = torch.rand(60, 3, generator=torch.Generator().manual_seed(3)) * 7
BATCH = torch.zeros(60, dtype=torch.int32)
FEATURES = values(len(SITES), 5)

CASES: dict[str, tuple[Operator, list[Tensor]]] = {
    "conv": (
        lambda x, w, b, r: reference.sparse_conv(x, NEIGHBORS, w, b, r, activation="gelu"),
        [FEATURES, values(27, 5, 4), values(4), values(len(SITES), 4)],
    ),
    "pool max": (lambda x: reference.sparse_pool(x, NEIGHBORS, "max"), [FEATURES]),
    "pool avg": (lambda x: reference.sparse_pool(x, NEIGHBORS, "avg"), [FEATURES]),
    "global avg": (lambda x: reference.sparse_global_pool(x, SITES, 3, "avg"), [FEATURES]),
    "gather": (lambda x: reference.gather_rows(x, ROWS, 1 / 3), [FEATURES]),
    "reduce": (lambda x: reference.reduce_rows(x, ROWS, 40, "mean"), [FEATURES]),
    "dense": (lambda x: reference.sparse_to_dense(SITES, x, 2, GRID), [FEATURES]),
    "sparse": (lambda x: reference.dense_to_sparse(x, 0.3), [values(2, 3, *GRID)]),
    "union": (sites_with_other, [FEATURES, values(len(coords(7)), 5, seed=4)]),
    "trilinear": (
        lambda x: reference.sparse_interpolate(x, SITES, POINTS, BATCH, RANGE, SIZE),
        [FEATURES],
    ),
}


@low_types
@pytest.mark.parametrize("case", CASES)
def test_float32_rounded_once(case: str, dtype: torch.dtype) -> None:
    operator, inputs = CASES[case]
    low = [x.to(dtype) for x in inputs]
    got = operator(*low)
    want = operator(*(x.float() for x in low))
    pairs = zip(got, want, strict=True) if isinstance(got, tuple) else [(got, want)]
    for a, b in pairs:
        assert a.dtype == (dtype if b.is_floating_point() else torch.int32)
        # A constant that enters is rounded too; the operators' own results are rounded once.
        assert torch.equal(a, b.to(a.dtype))


def test_sums_are_kept_in_float32() -> None:
    # In float16 the sum would stop at 2048, where adding 1 changes nothing.
    ones = torch.ones(4000, 1, dtype=torch.float16)
    total = reference.reduce_rows(ones, torch.zeros(4000, dtype=torch.int32), 1, "sum")
    assert total.item() == 4000


def test_gradients_pass_through() -> None:
    x = FEATURES.half().requires_grad_()
    out = reference.sparse_pool(x, NEIGHBORS, "sum")
    assert isinstance(out, Tensor)
    out.sum().backward()
    assert x.grad is not None and x.grad.dtype == torch.float16
    assert torch.equal(x.grad[:, 0].float(), (NEIGHBORS >= 0).sum(0).float())


def test_two_low_types_are_refused() -> None:
    with pytest.raises(ValueError, match="float16 and bfloat16"):
        reference.sparse_conv(FEATURES.half(), NEIGHBORS, values(27, 5, 4).bfloat16())
