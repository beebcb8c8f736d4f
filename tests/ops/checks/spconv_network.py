# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""A network written for spconv, run by whichever package is handed in.

As a script (in spconv's own environment): writes its weights and its outputs to the file named.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import nn

SHAPE = [13, 20, 22]


def build(spconv: Any) -> nn.ModuleDict:
    """Every kind of layer that spconv's CPU build runs; only batch norm is in evaluation mode.

    (Its convolutions refuse a bias on the CPU when they are.)
    """
    torch.manual_seed(0)
    norm = nn.BatchNorm1d(16, eps=1e-3).eval()
    first = spconv.SubMConv3d(4, 16, 3, padding=1, bias=False, indice_key="sites")
    return nn.ModuleDict(
        {
            "input": spconv.SparseSequential(first, norm, nn.ReLU()),
            "submanifold": spconv.SubMConv3d(16, 16, 3, padding=1, indice_key="sites"),
            "down": spconv.SparseConv3d(16, 32, 3, 2, (0, 1, 1), bias=False, indice_key="down"),
            "column": spconv.SparseConv3d(16, 8, (3, 1, 1), (2, 1, 1)),
            "up": spconv.SparseInverseConv3d(32, 16, 3, indice_key="down"),
            "grow": spconv.SparseConvTranspose3d(16, 8, 3, 2, 1),
            "pool": spconv.SparseMaxPool3d(3, 2, 1),
            "product": spconv.SparseConv3d(16, 8, 1),
        }
    )


@torch.no_grad()
def run(spconv: Any, layers: nn.ModuleDict) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """(coords, features) by layer, of 1,500 sites in any order in two frames."""
    generator = torch.Generator().manual_seed(1)
    cells = torch.randperm(2 * 13 * 20 * 22, generator=generator)[:1500]
    coords = torch.stack(torch.unravel_index(cells, (2, *SHAPE)), dim=1).int()
    features = torch.randn(1500, 4, generator=generator)
    x = layers["input"](spconv.SparseConvTensor(features, coords, SHAPE, 2))
    outputs = {"submanifold": layers["submanifold"](x), "down": layers["down"](x)}
    outputs["up"] = layers["up"](outputs["down"])
    for name in ("column", "grow", "pool", "product"):
        outputs[name] = layers[name](x)
    return {name: (out.indices, out.features) for name, out in outputs.items()}


if __name__ == "__main__":
    import spconv.pytorch

    torch.set_num_threads(1)  # spconv's CPU scatter races with more
    network = build(spconv.pytorch)
    torch.save((network.state_dict(), run(spconv.pytorch, network)), sys.argv[1])
