// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "rulebook/shape.h"

namespace rulebook {

// A metric grid over points. `range` is (lo_x, lo_y, lo_z, hi_x, hi_y, hi_z) and `voxel_size` (x,
// y, z): point order, the reverse of coords order. Works for 1 to kMaxAxes axes.
struct VoxelGrid {
  std::vector<float> range;       // [2 * axes]
  std::vector<float> voxel_size;  // [axes]

  int axes() const { return static_cast<int>(voxel_size.size()); }
  // Throws unless sizes agree, all values are finite, hi > lo and voxel_size > 0.
  void Check() const;
  // round((hi - lo) / voxel_size) per axis, reversed into spatial_shape order (z, y, x).
  SpatialShape Shape() const;
};

}  // namespace rulebook
