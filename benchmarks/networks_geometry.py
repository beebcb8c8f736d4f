# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Geometry of VoxelBackBone8x, apart from networks.py so that reading it needs no torch."""

from __future__ import annotations

# (kernel_size, stride, padding) of the layers that change the grid: levels 1-2, 2-3, 3-4, 4-out.
DOWNSAMPLING = (
    ([3, 3, 3], [2, 2, 2], [1, 1, 1]),
    ([3, 3, 3], [2, 2, 2], [1, 1, 1]),
    ([3, 3, 3], [2, 2, 2], [0, 1, 1]),
    ([3, 1, 1], [2, 1, 1], [0, 0, 0]),
)
