# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Containers that hold one module twice."""

from __future__ import annotations

import torch
from torch import nn

import voxgate_ops.nn as spconv


def tensor() -> spconv.SparseConvTensor:
    coords = torch.tensor([[0, 1, 1], [0, 2, 3]], dtype=torch.int32)
    return spconv.SparseConvTensor(torch.tensor([[-1.0], [2.0]]), coords, [4, 5], 1)


class Minus(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 1.0 - x


def test_a_module_that_is_in_a_sequence_twice_runs_twice() -> None:
    relu, minus = nn.ReLU(), Minus()
    sequence = spconv.SparseSequential(minus, relu, minus, relu)
    assert len(sequence) == 4
    assert sequence[3] is relu
    # 1 - x = [2, -1]; relu = [2, 0]; 1 - that = [-1, 1]; relu = [0, 1]
    torch.testing.assert_close(sequence(tensor()).features, torch.tensor([[0.0], [1.0]]))


def test_a_module_that_is_in_a_table_twice_gives_two_outputs() -> None:
    layer = spconv.SubMConv2d(1, 2, 3)
    table = spconv.ConcatTable().add(layer).add(layer)
    with torch.no_grad():
        assert len(table(tensor())) == 2
