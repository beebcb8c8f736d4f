# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Containers and the element-wise modules that know sparse tensors."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from voxgate_ops.nn.core import SparseConvTensor


class SparseModule(nn.Module):
    """Base of every module that takes a SparseConvTensor inside a SparseSequential."""

    def __init__(self, name: str | None = None) -> None:
        super().__init__()
        self.name = name
        self._sparse_unique_name = ""


def in_order(container: nn.Module) -> list[nn.Module]:
    """The modules of a container, one that is in it twice twice (children() gives it once)."""
    return [module for module in container._modules.values() if module is not None]


class SparseSequential(SparseModule):
    """Modules run one after the other: sparse ones on the tensor, others on its features.

    Takes modules, one OrderedDict of them, and further ones by keyword, as nn.Sequential names
    them. Raises ValueError for a name that is taken.
    """

    def __init__(self, *args: Any, **kwargs: nn.Module) -> None:
        super().__init__()
        if len(args) == 1 and isinstance(args[0], OrderedDict):
            named = list(args[0].items())
        else:
            named = [(str(index), module) for index, module in enumerate(args)]
        for name, module in [*named, *kwargs.items()]:
            self.add(module, name)

    def __getitem__(self, index: int) -> nn.Module:
        modules = in_order(self)
        if not -len(modules) <= index < len(modules):
            raise IndexError(f"index {index} is out of range for {len(modules)} modules")
        return modules[index]

    def __len__(self) -> int:
        return len(self._modules)

    def add(self, module: nn.Module, name: str | None = None) -> None:
        """Appends a module, by default under the number of modules there are."""
        name = str(len(self._modules)) if name is None else name
        if name in self._modules:
            raise ValueError(f"a module named {name!r} exists")
        self.add_module(name, module)

    def forward(self, input: Any) -> Any:
        for module in in_order(self):
            if is_spconv_module(module) or not isinstance(input, SparseConvTensor):
                input = module(input)
            elif not _needs_rows(module, input.features):
                input = input.replace_feature(module(input.features))
        return input


def _needs_rows(module: nn.Module, features: Tensor) -> bool:
    """Training statistics of no rows: there is nothing to normalise and nothing to learn."""
    if torch.compiler.is_compiling():
        return False
    return features.shape[0] == 0 and isinstance(module, _BatchNorm) and module.training


def _on_features(input: Any, function: Any) -> Any:
    if isinstance(input, SparseConvTensor):
        return input.replace_feature(function(input.features))
    return function(input)


class SparseBatchNorm(nn.BatchNorm1d):
    """BatchNorm1d that also takes a SparseConvTensor."""

    def forward(self, input: Any) -> Any:
        return _on_features(input, super().forward)


class SparseSyncBatchNorm(nn.SyncBatchNorm):
    """SyncBatchNorm that also takes a SparseConvTensor."""

    def forward(self, input: Any) -> Any:
        return _on_features(input, super().forward)


class SparseReLU(nn.ReLU):
    """ReLU that also takes a SparseConvTensor."""

    def forward(self, input: Any) -> Any:
        return _on_features(input, super().forward)


class SparseIdentity(nn.Identity):
    """Identity that also takes a SparseConvTensor."""

    def forward(self, input: Any) -> Any:
        return input


class Identity(nn.Module):
    """Gives back what it is given."""

    def forward(self, input: Any) -> Any:
        return input


class ToDense(SparseModule):
    """A SparseConvTensor as a dense tensor `[B, C, *spatial_shape]`."""

    def forward(self, x: SparseConvTensor) -> Tensor:
        return x.dense()


class RemoveGrid(SparseModule):
    """Forgets the tensor's pre-allocated grid, which nothing here uses."""

    def forward(self, x: SparseConvTensor) -> SparseConvTensor:
        x.grid = None
        return x


def is_spconv_module(module: nn.Module) -> bool:
    """Whether SparseSequential hands this module the whole SparseConvTensor."""
    return isinstance(module, (SparseModule, SparseBatchNorm, SparseReLU, SparseIdentity))


def assign_name_for_sparse_modules(module: nn.Module) -> None:
    """Gives every sparse module below `module` its dotted path as `_sparse_unique_name`."""
    for path, found in module.named_modules():
        if isinstance(found, SparseModule):
            found._sparse_unique_name = path
