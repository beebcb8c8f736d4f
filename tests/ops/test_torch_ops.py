# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""torch.ops.voxgate: registration, shapes while tracing, gradients, which code runs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from voxgate_ops import _native, reference, torch_ops

SHAPE = [4, 5, 6]
KERNEL, TWO, ONE = [3, 3, 3], [2, 2, 2], [1, 1, 1]
GRID = [0.0, 0.0, 0.0, 6.0, 5.0, 4.0]


def make_inputs(sites: float = 0.3) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    coords = (torch.rand([2, *SHAPE], generator=generator) < sites).nonzero().int()
    down, pairs = reference.sparse_rulebook(coords, SHAPE, KERNEL, TWO, ONE, ONE)
    boxes = torch.cat([normal(9, 3), normal(9, 3).abs() + 0.1, normal(9, 1)], dim=1)
    return {
        "coords": coords,
        "features": normal(len(coords), 4),
        "down": down,
        "pairs": pairs,
        "weight": normal(27, 4, 5),
        "bias": normal(5),
        "residual": normal(pairs.shape[1], 5),
        "dense": normal(2, 3, 4, 5),
        "points": torch.rand(30, 4, generator=generator) * 5,
        "point_batch": torch.arange(30, dtype=torch.int32) % 2,
        "row": torch.arange(len(coords), dtype=torch.int32) % 3 - 1,
        "boxes": boxes,
        "scores": torch.rand(9, generator=generator),
        "frame": torch.zeros(9, dtype=torch.int32),
    }


# Operator -> its arguments; a str that names an input stands for it.
CALLS: dict[str, list[Any]] = {
    "sort_sites": ["coords", SHAPE, "error"],
    "find_sites": ["coords", "coords"],
    "submanifold_rulebook": ["coords", SHAPE, KERNEL, ONE],
    "sparse_rulebook": ["coords", SHAPE, KERNEL, TWO, ONE, ONE, False, None, "down"],
    "inverse_rulebook": ["pairs", "coords"],
    "sparse_conv": ["features", "pairs", "weight", "bias", "residual", 1, "relu", 0.01],
    "sparse_pool": ["features", "pairs", "avg"],
    "sparse_global_pool": ["features", "coords", 2, "max"],
    "sparse_to_dense": ["coords", "features", 2, SHAPE],
    "dense_to_sparse": ["dense", 0.5],
    "sparse_union": ["coords", "features", "coords", "features", "concat"],
    "gather_rows": ["features", "row", 0.5],
    "reduce_rows": ["features", "row", "coords", "mean"],
    "voxelize": ["points", "point_batch", GRID, [1.0, 1.0, 1.0], "mean", 2, 0],
    "sparse_interpolate": [
        *("features", "coords", "points", "point_batch", GRID, [1.0, 1.0, 1.0]),
        *("trilinear", "center", True),
    ],
    "rotated_nms": ["boxes", "scores", "frame", 0.3, 0.1, 0],
}


def arguments(name: str, inputs: dict[str, Tensor]) -> list[Any]:
    """A fresh copy of every tensor: no two arguments alias."""
    return [
        inputs[arg].clone() if isinstance(arg, str) and arg in inputs else arg
        for arg in CALLS[name]
    ]


def as_tuple(value: Any) -> tuple[Tensor, ...]:
    return value if isinstance(value, tuple) else (value,)


def test_every_operator_is_tested() -> None:
    assert CALLS.keys() == torch_ops.SCHEMAS.keys()


@pytest.mark.parametrize("name", sorted(CALLS))
def test_registration(name: str) -> None:
    """Schema, no aliasing, and shapes under fake tensors agree with what runs."""
    operator = getattr(torch.ops.voxgate, name).default
    utils = ("test_schema", "test_faketensor", "test_autograd_registration")
    torch.library.opcheck(operator, tuple(arguments(name, make_inputs())), test_utils=utils)


@pytest.mark.parametrize("sites", [0.3, 0.0])
@pytest.mark.parametrize("name", sorted(CALLS))
def test_native_and_reference_agree(name: str, sites: float) -> None:
    """float32 runs the native library, float64 the reference."""
    inputs = make_inputs(sites)
    native = as_tuple(torch_ops.call(name, *arguments(name, inputs)))
    doubled = {k: v.double() if v.is_floating_point() else v for k, v in inputs.items()}
    exact = as_tuple(torch_ops.call(name, *arguments(name, doubled)))
    for a, b in zip(native, exact, strict=True):
        torch.testing.assert_close(a.to(b.dtype), b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "name", ["sparse_conv", "sparse_pool", "sparse_to_dense", "sparse_union", "reduce_rows"]
)
def test_gradient_of_the_operator(name: str) -> None:
    """What torch.ops.voxgate gives is what the reference gives."""
    found = []
    for function in (getattr(torch.ops.voxgate, name), lambda *a: torch_ops.call(name, *a)):
        args = arguments(name, make_inputs())
        floats = [a for a in args if isinstance(a, Tensor) and a.is_floating_point()]
        for tensor in floats:
            tensor.requires_grad_()
        out = as_tuple(function(*args))[-1]
        found.append(torch.autograd.grad(out.square().sum(), floats))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_defaults_may_be_left_out() -> None:
    inputs = make_inputs()
    weight = inputs["weight"].requires_grad_()
    out = torch.ops.voxgate.sparse_conv(inputs["features"], inputs["pairs"], weight)
    out.sum().backward()
    assert weight.grad is not None
    assert weight.grad.abs().sum() > 0


def test_native_runs_without_a_gradient_only(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    run = _native.sparse_pool
    monkeypatch.setattr(_native, "sparse_pool", lambda *a, **k: calls.append(1) or run(*a, **k))
    args = arguments("sparse_pool", make_inputs())
    torch_ops.call("sparse_pool", *args)
    assert len(calls) == 1
    args[0].requires_grad_()
    torch_ops.call("sparse_pool", *args)
    assert len(calls) == 1
    with torch.no_grad():
        torch_ops.call("sparse_pool", *args)
    assert len(calls) == 2


@pytest.mark.parametrize("kind", [torch.int32, torch.int64, torch.float16, torch.bfloat16])
def test_gather_other_types(kind: torch.dtype) -> None:
    x = torch.arange(6).reshape(3, 2).to(kind)
    row = torch.tensor([2, -1], dtype=torch.int32)
    assert torch.ops.voxgate.gather_rows(x, row, 7.0).tolist() == [[4, 5], [7, 7]]


def test_errors_are_value_errors() -> None:
    coords = make_inputs()["coords"]
    with pytest.raises(ValueError, match="odd|even"):
        torch.ops.voxgate.submanifold_rulebook(coords, SHAPE, [2, 3, 3], ONE)


def test_export_keeps_sizes_symbolic() -> None:
    """One graph for any number of sites and frames; duplicates refused means as many rows."""

    class Network(torch.nn.Module):
        def forward(self, coords: Tensor, features: Tensor, batch_size: int) -> Tensor:
            coords, order, _ = torch.ops.voxgate.sort_sites(coords, SHAPE, "error")
            assert coords.shape == (features.shape[0], 4)
            out, pairs = torch.ops.voxgate.sparse_rulebook(coords, SHAPE, KERNEL, TWO, ONE, ONE)
            pooled = torch.ops.voxgate.sparse_pool(features[order], pairs, "max")
            return torch.ops.voxgate.sparse_to_dense(out, pooled, batch_size, [2, 3, 3])

    inputs, dynamic = make_inputs(), torch.export.Dim.DYNAMIC
    program = torch.export.export(
        Network(),
        (inputs["coords"], inputs["features"], 2),
        dynamic_shapes={"coords": {0: dynamic}, "features": {0: dynamic}, "batch_size": dynamic},
    )
    for sites in (0.0, 0.1, 0.9):
        other = make_inputs(sites)
        dense = program.module()(other["coords"], other["features"], 3)
        assert dense.shape == (3, 4, 2, 3, 3)
        assert dense[2].abs().sum() == 0
