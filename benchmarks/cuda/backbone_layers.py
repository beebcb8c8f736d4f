# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Sizes of every layer of the benchmark's backbone on one scan: sites, pairs, channels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.networks import voxel_backbone8x
from benchmarks.sites import SPATIAL_SHAPE, Scan

TILES = (32, 64, 128)  # heights of tiles that the work is counted for


@dataclass(frozen=True)
class Rulebook:
    """A rulebook that a network makes, which one layer or several read."""

    name: str
    submanifold: bool
    inputs: int
    inputs_with_pairs: int
    outputs: int
    volume: int
    pairs: int
    # Rows of products that tiles of so many outputs make, by height: a tile skips the offsets in
    # which none of its rows has a pair.
    rows_of_tiles: tuple[int, ...]


@dataclass(frozen=True)
class Layer:
    """One SparseConv."""

    rulebook: Rulebook
    in_channels: int
    out_channels: int

    @property
    def flops(self) -> int:
        """A multiply and an add for each pair, input channel and output channel."""
        return 2 * self.rulebook.pairs * self.in_channels * self.out_channels


def backbone_layers(scan: Scan) -> list[Layer]:
    """The layers in the order in which they run; needs torch."""
    import voxgate_ops.nn as spconv
    from voxgate_ops.nn.conv import SparseConvolution

    network = voxel_backbone8x(spconv, scan.features.shape[1])
    convolutions = [one for one in network.modules() if isinstance(one, SparseConvolution)]
    return list(_layers(convolutions, scan.coords))


def _layers(convolutions: list[Any], coords: NDArray[np.int32]) -> Iterator[Layer]:
    from voxgate_ops import _native

    shape = SPATIAL_SHAPE
    shared: dict[str, Rulebook] = {}
    for conv in convolutions:
        kernel, stride, padding = (
            list(value) for value in (conv.kernel_size, conv.stride, conv.padding)
        )
        ones = [1] * len(kernel)
        if conv.indice_key not in shared:
            if conv.subm:
                below = coords
                neighbors = _native.submanifold_rulebook(coords, shape, kernel, ones)
            else:
                below = coords
                coords, neighbors = _native.sparse_rulebook(
                    below, shape, kernel, stride, padding, ones
                )
                sizes = zip(shape, kernel, stride, padding, strict=True)
                shape = [(n + 2 * p - k) // s + 1 for n, k, s, p in sizes]
            shared[conv.indice_key] = measure(conv.indice_key, conv.subm, len(below), neighbors)
        yield Layer(shared[conv.indice_key], conv.in_channels, conv.out_channels)


def measure(name: str, submanifold: bool, inputs: int, neighbors: NDArray[np.int32]) -> Rulebook:
    """The sizes of neighbors [K, M] over `inputs` rows."""
    present = neighbors >= 0
    volume, outputs = neighbors.shape
    return Rulebook(
        name,
        submanifold,
        inputs,
        len(np.unique(neighbors[present])),
        outputs,
        volume,
        int(present.sum()),
        tuple(_rows_of_tiles(present, height) for height in TILES),
    )


def _rows_of_tiles(present: NDArray[np.bool_], height: int) -> int:
    volume, outputs = present.shape
    tiles = -(-outputs // height)
    padded = np.zeros((volume, tiles * height), np.bool_)
    padded[:, :outputs] = present
    return int(padded.reshape(volume, tiles, height).any(axis=2).sum()) * height
