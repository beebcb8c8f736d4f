# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""A sparse U-Net that labels every site.

The shape is that of the submanifold U-Net (Graham et al. 2018, arXiv:1711.10275) with residual
blocks: strided convolutions down, the inverses of the same convolutions up, and at every level the
encoder's features concatenated.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

import voxgate_ops.nn as spconv
from voxgate_ops.models.blocks import ResidualBlock, conv_norm_relu, seed_weights

CLASS_NAMES = ("ground", "building", "vehicle", "pedestrian", "pole", "tree")
CLASS_COLORS = ("#8c8c8c", "#c8783c", "#3c78dc", "#dc3c50", "#e6c83c", "#3ca050")
CHANNELS = (16, 32, 64, 128)


class SparseUNet(nn.Module):
    """One level per entry of `channels`, finest first."""

    def __init__(
        self, num_features: int, num_classes: int, channels: Sequence[int] = CHANNELS
    ) -> None:
        super().__init__()
        first = spconv.SubMConv3d(
            num_features, channels[0], 3, padding=1, bias=False, indice_key="level0"
        )
        self.conv_input = conv_norm_relu(first, channels[0])
        self.encoders = nn.ModuleList(
            ResidualBlock(width, f"level{level}") for level, width in enumerate(channels)
        )
        self.downs, self.ups, self.decoders = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for level, (fine, coarse) in enumerate(zip(channels, channels[1:], strict=False)):
            key = f"down{level}"
            down = spconv.SparseConv3d(
                fine, coarse, 3, stride=2, padding=1, bias=False, indice_key=key
            )
            up = spconv.SparseInverseConv3d(coarse, fine, 3, indice_key=key, bias=False)
            merge = spconv.SubMConv3d(
                2 * fine, fine, 3, padding=1, bias=False, indice_key=f"level{level}"
            )
            self.downs.append(conv_norm_relu(down, coarse))
            self.ups.append(conv_norm_relu(up, fine))
            self.decoders.append(conv_norm_relu(merge, fine))
        # Not nn.Linear: a SparseConv row depends on nothing but its own pairs, so a frame gets
        # the same bytes alone and in a batch.
        self.head = spconv.SubMConv3d(channels[0], num_classes, 1, indice_key="head")

    def forward(self, x: spconv.SparseConvTensor) -> dict[str, Tensor]:
        """`label` int32 [N], the most probable class, and `score` float32 [N], its probability."""
        x = self.encoders[0](self.conv_input(x))
        skips = []
        for down, encoder in zip(self.downs, self.encoders[1:], strict=True):
            skips.append(x)
            x = encoder(down(x))
        for level in reversed(range(len(skips))):
            x = self.ups[level](x)
            merged = torch.cat([x.features, skips[level].features], dim=1)
            x = self.decoders[level](x.replace_feature(merged))
        logits = self.head(x).features
        return {
            "label": logits.argmax(dim=1).to(torch.int32),
            "score": torch.softmax(logits, dim=1).amax(dim=1),
        }


def sparse_unet(
    num_features: int = 4,
    num_classes: int = len(CLASS_NAMES),
    channels: Sequence[int] = CHANNELS,
    *,
    seed: int = 0,
) -> SparseUNet:
    """The U-Net with seeded weights: a SparseConvTensor in, `label` and `score` per site out."""
    network = SparseUNet(num_features, num_classes, channels)
    seed_weights(network, seed)
    return network.eval()
