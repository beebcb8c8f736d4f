# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""OpenPCDet's voxel backbones, the first stage of SECOND, PV-RCNN and CenterPoint.

Layers, channels and parameter names follow pcdet/models/backbones_3d/spconv_backbone.py
(Apache-2.0), so the `backbone_3d.` part of an OpenPCDet checkpoint loads. Height compression is
that of pcdet/models/backbones_2d/map_to_bev/height_compression.py.
"""

from __future__ import annotations

from torch import Tensor, nn

import voxgate_ops.nn as spconv
from voxgate_ops.models.blocks import ResidualBlock, conv_norm_relu, seed_weights


def _down(
    inputs: int, outputs: int, indice_key: str, padding: int | tuple[int, int, int] = 1
) -> spconv.SparseSequential:
    conv = spconv.SparseConv3d(
        inputs, outputs, 3, stride=2, padding=padding, bias=False, indice_key=indice_key
    )
    return conv_norm_relu(conv, outputs)


def _submanifold(inputs: int, outputs: int, indice_key: str) -> spconv.SparseSequential:
    conv = spconv.SubMConv3d(inputs, outputs, 3, padding=1, bias=False, indice_key=indice_key)
    return conv_norm_relu(conv, outputs)


class _Backbone8x(nn.Module):
    """Four levels, each of half the resolution, then the z axis once more, then a BEV map."""

    conv1: nn.Module
    conv2: nn.Module
    conv3: nn.Module
    conv4: nn.Module

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.conv_input = _submanifold(num_features, 16, "subm1")

    def _add_output(self, inputs: int) -> None:
        conv = spconv.SparseConv3d(
            inputs, 128, (3, 1, 1), stride=(2, 1, 1), bias=False, indice_key="spconv_down2"
        )
        self.conv_out = conv_norm_relu(conv, 128)

    def forward(self, x: spconv.SparseConvTensor) -> dict[str, Tensor]:
        """`bev` float32 [B, 128 · D, H, W]: the z axis, D sizes, is folded into the channels."""
        x = self.conv_input(x)
        for level in (self.conv1, self.conv2, self.conv3, self.conv4, self.conv_out):
            x = level(x)
        dense = x.dense()
        batch, channels, depth, height, width = dense.shape
        return {"bev": dense.view(batch, channels * depth, height, width)}


class VoxelBackbone8x(_Backbone8x):
    """OpenPCDet's VoxelBackBone8x: plain convolutions, 16-16-32-64-64-128 channels."""

    def __init__(self, num_features: int) -> None:
        super().__init__(num_features)
        self.conv1 = spconv.SparseSequential(_submanifold(16, 16, "subm1"))
        self.conv2 = spconv.SparseSequential(
            _down(16, 32, "spconv2"), *(_submanifold(32, 32, "subm2") for _ in range(2))
        )
        self.conv3 = spconv.SparseSequential(
            _down(32, 64, "spconv3"), *(_submanifold(64, 64, "subm3") for _ in range(2))
        )
        self.conv4 = spconv.SparseSequential(
            _down(64, 64, "spconv4", padding=(0, 1, 1)),
            *(_submanifold(64, 64, "subm4") for _ in range(2)),
        )
        self._add_output(64)


class VoxelResBackbone8x(_Backbone8x):
    """OpenPCDet's VoxelResBackBone8x: residual blocks, 16-16-32-64-128-128 channels."""

    def __init__(self, num_features: int) -> None:
        super().__init__(num_features)
        self.conv1 = spconv.SparseSequential(*(ResidualBlock(16, "res1") for _ in range(2)))
        self.conv2 = spconv.SparseSequential(
            _down(16, 32, "spconv2"), *(ResidualBlock(32, "res2") for _ in range(2))
        )
        self.conv3 = spconv.SparseSequential(
            _down(32, 64, "spconv3"), *(ResidualBlock(64, "res3") for _ in range(2))
        )
        self.conv4 = spconv.SparseSequential(
            _down(64, 128, "spconv4", padding=(0, 1, 1)),
            *(ResidualBlock(128, "res4") for _ in range(2)),
        )
        self._add_output(128)


def voxel_backbone8x(num_features: int = 4, *, seed: int = 0) -> VoxelBackbone8x:
    """VoxelBackBone8x with seeded weights: a SparseConvTensor in, `bev` out."""
    network = VoxelBackbone8x(num_features)
    seed_weights(network, seed)
    return network.eval()


def voxel_res_backbone8x(num_features: int = 4, *, seed: int = 0) -> VoxelResBackbone8x:
    """VoxelResBackBone8x with seeded weights: a SparseConvTensor in, `bev` out."""
    network = VoxelResBackbone8x(num_features)
    seed_weights(network, seed)
    return network.eval()
