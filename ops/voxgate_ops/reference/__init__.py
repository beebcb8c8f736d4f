# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Every operator in plain torch: the definition the native library is held to.

Functions take and return torch tensors of any float dtype on any device and are differentiable in
their features, weights, biases and residuals; float16 and bfloat16 are computed in float32 and
rounded once. `coords` is int32 `[N, 1+D]`, `neighbors` int32
`[K, M]`; per-axis arguments are sequences of D ints. Bad shapes and values raise ValueError.
"""

from voxgate_ops.reference.convolution import ACTIVATIONS, activate, sparse_conv
from voxgate_ops.reference.coords import check_canonical, find_sites, sort_sites
from voxgate_ops.reference.dense import dense_to_sparse, sparse_to_dense, sparse_union
from voxgate_ops.reference.nms import bev_iou, rotated_nms
from voxgate_ops.reference.pooling import POOL_MODES, sparse_global_pool, sparse_pool
from voxgate_ops.reference.rows import REDUCE_MODES, gather_rows, reduce_rows
from voxgate_ops.reference.rulebook import (
    ConvGeometry,
    inverse_rulebook,
    sparse_rulebook,
    submanifold_geometry,
    submanifold_rulebook,
)
from voxgate_ops.reference.voxels import grid_shape, sparse_interpolate, voxelize

__all__ = [
    "ACTIVATIONS",
    "POOL_MODES",
    "REDUCE_MODES",
    "ConvGeometry",
    "activate",
    "bev_iou",
    "check_canonical",
    "dense_to_sparse",
    "find_sites",
    "gather_rows",
    "grid_shape",
    "inverse_rulebook",
    "reduce_rows",
    "rotated_nms",
    "sort_sites",
    "sparse_conv",
    "sparse_global_pool",
    "sparse_interpolate",
    "sparse_pool",
    "sparse_rulebook",
    "sparse_to_dense",
    "sparse_union",
    "submanifold_geometry",
    "submanifold_rulebook",
    "voxelize",
]
