# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""What export fuses into SparseConv, and which rulebooks it shares."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from tests.ops.checks.networks import (
    Function,
    Layers,
    attributes,
    down,
    export,
    norm,
    operators,
    subm,
)
from torch import Tensor, nn

import voxgate_ops.nn as spconv


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "model.onnx"


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


# --- fusion ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("bias", [False, True])
def test_batch_norm_is_folded_and_relu_fused(out: Path, bias: bool) -> None:
    model = export(Layers(subm(4, 8, bias), norm(8), nn.ReLU(), subm(8, 4, True)), out)
    found = operators(model)
    assert found["SparseConv"] == 2
    assert not found.keys() & {"BatchNormalization", "Relu", "Mul", "Add", "Transpose"}
    assert attributes(model, "SparseConv")[0]["activation"] == b"relu"


def test_folding_is_done_in_float64(out: Path) -> None:
    conv, bn = subm(2, 3), norm(3)
    model = export(Layers(conv, bn), out, num_features=2)
    scale = bn.weight.double() / torch.sqrt(bn.running_var.double() + bn.eps)
    # KRSC [O, *kernel, I] -> [K, I, O]
    weight = conv.weight.detach().double().reshape(3, 27, 2).permute(1, 2, 0) * scale
    stored = {i.name: onnx.numpy_helper.to_array(i) for i in model.graph.initializer}
    node = next(node for node in model.graph.node if node.op_type == "SparseConv")
    np.testing.assert_array_equal(stored[node.input[2]], weight.detach().numpy().astype(np.float32))


def test_a_batch_norm_without_a_convolution_stays_arithmetic(out: Path) -> None:
    found = operators(export(Layers(norm(4), nn.ReLU(), subm(4, 8)), out))
    assert found["BatchNormalization"] == 0
    assert (found["Mul"], found["Add"], found["Relu"]) == (1, 1, 1)


ACTIVATIONS: list[tuple[nn.Module, bytes]] = [
    (nn.ReLU(), b"relu"),
    (nn.LeakyReLU(0.2), b"leaky_relu"),
    (nn.Sigmoid(), b"sigmoid"),
    (nn.SiLU(), b"silu"),
    (nn.GELU(), b"gelu"),
]


@pytest.mark.parametrize(("activation", "name"), ACTIVATIONS, ids=str)
def test_activations_are_fused(out: Path, activation: nn.Module, name: bytes) -> None:
    model = export(Layers(subm(4, 8, True), activation), out)
    (found,) = attributes(model, "SparseConv")
    assert found["activation"] == name
    if name == b"leaky_relu":
        assert found["alpha"] == pytest.approx(0.2)
    assert set(operators(model)) == {
        "SortSites", "Cast", "GatherRows", "SubmanifoldRulebook", "SparseConv"
    }  # fmt: skip


def test_gelu_by_tanh_is_not_fused(out: Path) -> None:
    model = export(Layers(subm(4, 8), nn.GELU(approximate="tanh")), out)
    assert attributes(model, "SparseConv")[0]["activation"] == b"none"


def test_constants_are_folded(out: Path) -> None:
    def call(x: Any, conv: nn.Module) -> Tensor:
        return (conv(x).features * 2.0 + torch.arange(8.0)) / 4.0 - 1.0

    found = operators(export(Function(call, conv=subm(4, 8, True)), out))
    assert not found.keys() & {"Mul", "Add", "Div", "Sub"}


def test_a_residual_is_fused(out: Path) -> None:
    def call(x: Any, first: nn.Module, second: nn.Module, bn: nn.Module) -> Tensor:
        y = first(x)
        y = second(y.replace_feature(torch.relu(y.features)))
        return torch.relu(bn(y.features) + x.features)

    model = export(Function(call, first=subm(4, 8), second=subm(8, 4), bn=norm(4)), out)
    assert not operators(model).keys() & {"Add", "Relu", "BatchNormalization"}
    first, last = (node for node in model.graph.node if node.op_type == "SparseConv")
    assert len(first.input) == 3
    assert len(last.input) == 5


def test_of_two_convolutions_the_later_takes_the_residual(out: Path) -> None:
    def call(x: Any, short: nn.Module, long: nn.Module, last: nn.Module) -> Tensor:
        return torch.relu(short(x).features + last(long(x)).features)

    network = Function(call, short=subm(4, 8), long=subm(4, 6), last=subm(6, 8))
    found = operators(export(network, out))
    assert found["SparseConv"] == 3
    assert not found.keys() & {"Add", "Relu"}


def test_an_output_read_twice_is_left_alone(out: Path) -> None:
    def call(x: Any, conv: nn.Module) -> dict[str, Tensor]:
        y = conv(x).features
        return {"raw": y, "act": torch.relu(y)}

    model = export(Function(call, conv=subm(4, 8)), out)
    assert operators(model)["Relu"] == 1
    assert attributes(model, "SparseConv")[0]["activation"] == b"none"


def test_a_weight_used_twice_is_folded_for_each(out: Path) -> None:
    def call(x: Any, conv: nn.Module, a: nn.Module, b: nn.Module) -> Tensor:
        y = conv(x)
        return torch.relu(a(y.features)) + b(
            conv(y.replace_feature(torch.relu(y.features))).features
        )

    network = Function(call, conv=subm(4, 4), a=norm(4), b=norm(4))
    assert operators(export(network, out))["BatchNormalization"] == 0


def test_groups_reach_the_operator(out: Path) -> None:
    conv = spconv.SubMConv3d(4, 8, 3, padding=1, groups=2, bias=True)
    model = export(Layers(conv), out)
    assert attributes(model, "SparseConv")[0]["groups"] == 2


# --- sharing --------------------------------------------------------------------------------------

RULEBOOKS = ("SubmanifoldRulebook", "SparseRulebook", "InverseRulebook")


def rulebook_network(keys: list[str | None]) -> nn.Module:
    return Layers(
        subm(4, 4, key=keys[0]),
        subm(4, 4, key=keys[1]),
        down(4, 8, key=keys[2]),
        subm(8, 8, key=keys[3]),
        subm(8, 8, key=keys[4]),
        spconv.SparseInverseConv3d(8, 4, 3, indice_key=keys[2]),
        subm(4, 4, key=keys[5]),
    )


def test_equal_rulebooks_are_shared_whatever_their_keys(out: Path) -> None:
    counts = []
    for keys in (
        ["a", "a", "d", "b", "b", "a"],
        ["p", "q", "d", "r", "s", "t"],
        [None, None, "d", None, None, None],
    ):
        found = operators(export(rulebook_network(keys), out))
        counts.append([found[name] for name in RULEBOOKS])
    assert counts == [[2, 1, 1]] * 3


def test_different_rulebooks_are_not_shared(out: Path) -> None:
    network = Layers(
        subm(4, 4, key="a"),
        spconv.SubMConv3d(4, 4, (3, 1, 3), padding=(1, 0, 1), indice_key="b"),
        spconv.SubMConv3d(4, 4, 3, padding=2, dilation=2, indice_key="c"),
    )
    assert operators(export(network, out))["SubmanifoldRulebook"] == 3


def test_two_equal_strided_branches_meet(out: Path) -> None:
    def call(x: Any, a: nn.Module, b: nn.Module) -> spconv.SparseConvTensor:
        left, right = a(x), b(x)
        return left.replace_feature(left.features + right.features)

    found = operators(export(Function(call, a=down(4, 8, "a"), b=down(4, 8, "b")), out))
    assert found["SparseRulebook"] == 1
    assert found["Add"] == 0
