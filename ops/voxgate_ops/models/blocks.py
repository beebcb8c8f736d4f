# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Building blocks that the networks of this package share, and their seeded weights."""

from __future__ import annotations

import math

import torch
from torch import nn

import voxgate_ops.nn as spconv

# OpenPCDet's BatchNorm1d settings (pcdet/models/backbones_3d/spconv_backbone.py).
_EPSILON = 1e-3
_MOMENTUM = 0.01
# Roughly how many of a 3 × 3 × 3 kernel's cells hold a site on a surface that a LiDAR sees.
_ACTIVE_SHARE = 0.35


def batch_norm(channels: int) -> nn.BatchNorm1d:
    """Batch normalization with OpenPCDet's settings."""
    return nn.BatchNorm1d(channels, eps=_EPSILON, momentum=_MOMENTUM)


def conv_norm_relu(conv: nn.Module, channels: int) -> spconv.SparseSequential:
    """A convolution with `channels` outputs, batch normalization and ReLU."""
    return spconv.SparseSequential(conv, batch_norm(channels), nn.ReLU())


class ResidualBlock(spconv.SparseModule):
    """relu(x + bn2(conv2(relu(bn1(conv1(x)))))), both submanifold 3 × 3 × 3 with bias."""

    def __init__(self, channels: int, indice_key: str) -> None:
        super().__init__()
        self.conv1 = spconv.SubMConv3d(channels, channels, 3, padding=1, indice_key=indice_key)
        self.bn1 = batch_norm(channels)
        self.relu = nn.ReLU()
        self.conv2 = spconv.SubMConv3d(channels, channels, 3, padding=1, indice_key=indice_key)
        self.bn2 = batch_norm(channels)

    def forward(self, x: spconv.SparseConvTensor) -> spconv.SparseConvTensor:
        """Same sites and channels out as in."""
        out = self.conv1(x)
        out = out.replace_feature(self.relu(self.bn1(out.features)))
        out = self.conv2(out)
        y: spconv.SparseConvTensor = out.replace_feature(
            self.relu(self.bn2(out.features) + x.features)
        )
        return y


@torch.no_grad()
def seed_weights(network: nn.Module, seed: int) -> None:
    """Fill parameters and running statistics from a seed, at scales that keep activations alive.

    Weights are normal with variance 2 / (inputs that are active), after He et al. 2015
    (arXiv:1502.01852); statistics are near, but not at, mean 0 and variance 1.
    """
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.weight.uniform_(0.8, 1.2, generator=generator)
            module.bias.normal_(0.0, 0.1, generator=generator)
            if module.running_mean is not None and module.running_var is not None:
                module.running_mean.normal_(0.0, 0.1, generator=generator)
                module.running_var.uniform_(0.8, 1.2, generator=generator)
            continue
        weight = getattr(module, "weight", None)
        if not isinstance(weight, nn.Parameter):
            continue
        fan_in = weight.numel() // weight.shape[0]
        kernel_volume = fan_in // weight.shape[-1]
        active = fan_in * (_ACTIVE_SHARE if kernel_volume > 1 else 1.0)
        weight.normal_(0.0, math.sqrt(2.0 / active), generator=generator)
        bias = getattr(module, "bias", None)
        if isinstance(bias, nn.Parameter):
            bias.normal_(0.0, 0.1, generator=generator)
