# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""The shipped networks, exported small enough to be run in float64 beside the GPU's answer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray

import voxgate_ops.nn as spconv
from voxgate_ops import models
from voxgate_ops.export import export_onnx

Array = NDArray[Any]
SHAPE = [41, 96, 128]
FEATURES = 4
NETWORKS = ("voxel_backbone8x", "voxel_res_backbone8x", "sparse_unet")


@dataclass(frozen=True)
class Exported:
    """A network, and the file that it was exported to."""

    name: str
    precision: str
    path: Path
    network: torch.nn.Module

    @property
    def per_site(self) -> bool:
        """Whether outputs have a row per site, not one per frame."""
        return self.name == "sparse_unet"

    def float64(self, coords: Array, features: Array, frames: int) -> dict[str, Array]:
        """The network's own answer, in float64 throughout."""
        x = spconv.SparseConvTensor(
            torch.from_numpy(features).double(), torch.from_numpy(coords), SHAPE, frames
        )
        with torch.no_grad():
            found = self.network.double()(x)
        return {name: tensor.numpy() for name, tensor in found.items()}


def export(folder: Path, name: str, precision: str) -> Exported:
    network = models.MODELS[name].build(num_features=FEATURES, seed=0)
    path = folder / f"{name}-{precision}.onnx"
    export_onnx(network, path, spatial_shape=SHAPE, num_features=FEATURES, precision=precision)
    return Exported(name, precision, path, network)


def sites(count: int, seed: int, frames: int = 1) -> tuple[Array, Array]:
    """Unique sites in canonical order, in a window small enough that they touch."""
    random = np.random.default_rng(seed)
    window = (20, 60, 80)
    volume = int(np.prod(window))
    batch, cell = np.divmod(np.sort(random.choice(frames * volume, count, replace=False)), volume)
    z, y, x = np.unravel_index(cell, window)
    coords = np.stack([batch, z + 10, y + 20, x + 30], axis=1).astype(np.int32)
    return coords, random.standard_normal((count, FEATURES), dtype=np.float32)


def run(
    session: ort.InferenceSession, coords: Array, features: Array, frames: int = 1
) -> dict[str, Array]:
    """Every output by name."""
    given = {"coords": coords, "features": features, "batch_size": np.array(frames, np.int64)}
    wanted = {value.name for value in session.get_inputs()}
    names = [value.name for value in session.get_outputs()]
    feeds = {name: value for name, value in given.items() if name in wanted}
    return dict(zip(names, session.run(names, feeds), strict=True))
