# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Branches: run several modules on one tensor, add or concatenate what they give."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from voxgate_ops.nn.core import SparseConvTensor
from voxgate_ops.nn.modules import SparseModule, in_order


class JoinTable(SparseModule):
    """Concatenates the channels of tensors on the same sites."""

    def forward(self, input: list[SparseConvTensor]) -> SparseConvTensor:
        return input[0].replace_feature(torch.cat([x.features for x in input], dim=1))


class AddTable(SparseModule):
    """Adds the features of tensors on the same sites."""

    def forward(self, input: list[SparseConvTensor]) -> SparseConvTensor:
        total = input[0].features
        for x in input[1:]:
            total = total + x.features
        return input[0].replace_feature(total)


class ConcatTable(SparseModule):
    """Runs every module on the same input: a list of their outputs."""

    def forward(self, input: Any) -> list[Any]:
        return [module(input) for module in in_order(self)]

    def add(self, module: nn.Module) -> ConcatTable:
        self.add_module(str(len(self._modules)), module)
        return self
