# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Convolution over a rulebook."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from voxgate_ops.reference._checks import check_mode, check_neighbors, check_rows
from voxgate_ops.reference._precision import in_float32

ACTIVATIONS = ("none", "relu", "leaky_relu", "sigmoid", "silu", "gelu")


def activate(x: Tensor, activation: str = "none", alpha: float = 0.01) -> Tensor:
    """The activations SparseConv can fuse; gelu is the erf form, alpha is leaky_relu's slope."""
    check_mode(activation, ACTIVATIONS, "activation")
    if activation == "leaky_relu":
        return F.leaky_relu(x, alpha)
    if activation == "none":
        return x
    functions: dict[str, Callable[[Tensor], Tensor]] = {
        "relu": F.relu,
        "sigmoid": torch.sigmoid,
        "silu": F.silu,
        "gelu": F.gelu,
    }
    return functions[activation](x)


@in_float32
def sparse_conv(
    features: Tensor,
    neighbors: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    residual: Tensor | None = None,
    groups: int = 1,
    activation: str = "none",
    alpha: float = 0.01,
) -> Tensor:
    """`y[o] = act(bias + residual[o] + sum_k W[k]^T x[neighbors[k, o]])`, k ascending.

    features `[N, Ci]`, neighbors int32 `[K, M]`, weight `[K, Ci/groups, Co]`, bias `[Co]`, residual
    `[M, Co]`; returns `[M, Co]`. A row without pairs is act(bias + residual). Differentiable in all
    float inputs. Raises ValueError for shapes that do not fit and neighbors outside [-1, N).
    """
    _check_conv(features, neighbors, weight, bias, residual, groups)
    check_neighbors(neighbors, features.shape[0])
    outputs, out_channels = neighbors.shape[1], weight.shape[2]
    out = torch.zeros(outputs, out_channels, dtype=features.dtype, device=features.device)
    for offset, rows in enumerate(neighbors):
        paired = (rows >= 0).nonzero()[:, 0]
        gathered = features.index_select(0, rows.index_select(0, paired))
        out = out.index_add(0, paired, _grouped_matmul(gathered, weight[offset], groups))
    if bias is not None:
        out = out + bias
    if residual is not None:
        out = out + residual
    return activate(out, activation, alpha)


def _grouped_matmul(x: Tensor, weight: Tensor, groups: int) -> Tensor:
    """x `[P, Ci]`, weight `[Ci/g, Co]`, whose columns belong to the groups in order: `[P, Co]`."""
    if groups == 1:
        return x @ weight
    inputs, outputs = weight.shape[0], weight.shape[1] // groups
    x = x.reshape(x.shape[0], groups, inputs).transpose(0, 1)  # [g, P, Ci/g]
    weight = weight.reshape(inputs, groups, outputs).transpose(0, 1)  # [g, Ci/g, Co/g]
    return torch.bmm(x, weight).transpose(0, 1).flatten(1)


def _check_conv(
    features: Tensor,
    neighbors: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    residual: Tensor | None,
    groups: int,
) -> None:
    check_rows(features)
    if weight.dim() != 3 or 0 in weight.shape:
        raise ValueError(f"weight: expected shape [K, Ci/g, Co], got {list(weight.shape)}")
    volume, group_inputs, out_channels = weight.shape
    if neighbors.dim() != 2 or neighbors.shape[0] != volume:
        raise ValueError(
            f"neighbors: expected shape [{volume}, M] for weight {list(weight.shape)}, got "
            f"{list(neighbors.shape)}"
        )
    if groups < 1 or features.shape[1] != group_inputs * groups or out_channels % groups:
        raise ValueError(
            f"features {list(features.shape)} and weight {list(weight.shape)} do not fit groups "
            f"{groups}"
        )
    if bias is not None and list(bias.shape) != [out_channels]:
        raise ValueError(f"bias: expected shape [{out_channels}], got {list(bias.shape)}")
    expected = [neighbors.shape[1], out_channels]
    if residual is not None and list(residual.shape) != expected:
        raise ValueError(f"residual: expected shape {expected}, got {list(residual.shape)}")
