# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""The network of the comparison, written once for both libraries.

`spconv` is a parameter: the peer passes `spconv.pytorch`, we pass `voxgate_ops.nn`. Layers, names
and sizes are those of OpenPCDet's VoxelBackBone8x, up to conv_out's sparse output.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from benchmarks.networks_geometry import DOWNSAMPLING


def _normalized(spconv: Any, conv: Any, channels: int) -> Any:
    return spconv.SparseSequential(conv, nn.BatchNorm1d(channels, eps=1e-3), nn.ReLU())


def _submanifold(spconv: Any, in_channels: int, channels: int, key: str) -> Any:
    conv = spconv.SubMConv3d(
        in_channels, channels, 3, padding=1, bias=False, indice_key=f"subm{key}"
    )
    return _normalized(spconv, conv, channels)


def _downsampling(spconv: Any, in_channels: int, channels: int, level: int) -> Any:
    kernel_size, stride, padding = DOWNSAMPLING[level]
    conv = spconv.SparseConv3d(
        in_channels,
        channels,
        kernel_size,
        stride=stride,
        padding=padding,
        bias=False,
        indice_key=f"spconv{level}",
    )
    return _normalized(spconv, conv, channels)


def voxel_backbone8x(spconv: Any, num_features: int) -> nn.Module:
    """VoxelBackBone8x without its height compression: a SparseConvTensor in, one out (128)."""
    layers = [
        _submanifold(spconv, num_features, 16, "1"),
        _submanifold(spconv, 16, 16, "1"),
        _downsampling(spconv, 16, 32, 0),
        _submanifold(spconv, 32, 32, "2"),
        _submanifold(spconv, 32, 32, "2"),
        _downsampling(spconv, 32, 64, 1),
        _submanifold(spconv, 64, 64, "3"),
        _submanifold(spconv, 64, 64, "3"),
        _downsampling(spconv, 64, 64, 2),
        _submanifold(spconv, 64, 64, "4"),
        _submanifold(spconv, 64, 64, "4"),
        _downsampling(spconv, 64, 128, 3),
    ]
    module: nn.Module = spconv.SparseSequential(*layers)
    return module.eval()


def seed_weights(module: nn.Module, seed: int) -> None:
    """Fill weights and BatchNorm statistics so that activations stay near 1 through every layer.

    Statistics differ per channel: a fold of BatchNorm that is wrong anywhere shows in the result.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in sorted(module.state_dict().items()):
            if tensor.dim() > 1:  # [O, *kernel, I]: about half of the offsets have a pair
                fan_in = tensor[0].numel() / 2
                tensor.copy_(torch.randn(tensor.shape, generator=generator) * (2 / fan_in) ** 0.5)
            elif name.endswith(("running_var", "weight")):
                tensor.copy_(torch.rand(tensor.shape, generator=generator) * 0.4 + 0.8)
            elif name.endswith(("running_mean", "bias")):
                tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.1)
