# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Networks that `voxgate export` knows by name, with the grids they are usually run on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from voxgate_ops.models.sparse_unet import CLASS_COLORS, CLASS_NAMES, SparseUNet, sparse_unet
from voxgate_ops.models.voxel_backbone import (
    VoxelBackbone8x,
    VoxelResBackbone8x,
    voxel_backbone8x,
    voxel_res_backbone8x,
)

__all__ = [
    "MODELS",
    "ModelSpec",
    "SparseUNet",
    "VoxelBackbone8x",
    "VoxelResBackbone8x",
    "sparse_unet",
    "voxel_backbone8x",
    "voxel_res_backbone8x",
]


@dataclass(frozen=True)
class ModelSpec:
    """A network's factory and what `voxgate export` assumes unless told otherwise.

    `build` takes `num_features` and `seed` by keyword. `spatial_shape` is in z, y, x order,
    `point_range` and `voxel_size` are in metres and x, y, z order.
    """

    build: Callable[..., nn.Module]
    doc: str
    spatial_shape: tuple[int, int, int]
    point_range: tuple[float, ...]
    voxel_size: tuple[float, float, float]
    feature_names: tuple[str, ...] = ("x", "y", "z", "intensity")
    feature_units: tuple[str, ...] = ("m", "m", "m", "1")
    class_names: tuple[str, ...] = ()
    class_colors: tuple[str, ...] = ()


# SECOND's grid on KITTI (OpenPCDet, tools/cfgs/kitti_models/second.yaml): one z cell more than the
# voxels fill, as VoxelBackBone8x expects.
_KITTI_RANGE = (0.0, -40.0, -3.0, 70.4, 40.0, 1.0)
_KITTI_VOXEL = (0.05, 0.05, 0.1)
_KITTI_SHAPE = (41, 1600, 1408)

MODELS: dict[str, ModelSpec] = {
    "voxel_backbone8x": ModelSpec(
        voxel_backbone8x,
        "OpenPCDet's VoxelBackBone8x and height compression: a BEV map.",
        _KITTI_SHAPE,
        _KITTI_RANGE,
        _KITTI_VOXEL,
    ),
    "voxel_res_backbone8x": ModelSpec(
        voxel_res_backbone8x,
        "OpenPCDet's VoxelResBackBone8x and height compression: a BEV map.",
        _KITTI_SHAPE,
        _KITTI_RANGE,
        _KITTI_VOXEL,
    ),
    "sparse_unet": ModelSpec(
        sparse_unet,
        "A sparse U-Net: a label and its score for every site.",
        (80, 1024, 1024),
        (-51.2, -51.2, -3.0, 51.2, 51.2, 5.0),
        (0.1, 0.1, 0.1),
        class_names=CLASS_NAMES,
        class_colors=CLASS_COLORS,
    ),
}
