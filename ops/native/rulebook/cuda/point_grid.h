// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// Where points lie on a voxel grid, by cpu/points.h's arithmetic.
#pragma once

#include "device.h"
#include "points.h"

namespace rulebook::cuda {

// In coords order: axis 0 is the points' last spatial column.
struct PointGrid {
  float low[kMaxAxes];
  float size[kMaxAxes];
};

inline PointGrid MakePointGrid(const VoxelGrid& grid) {
  const cpu::GridAxes axes(grid);
  PointGrid result{};
  for (size_t axis = 0; axis < size_t{kMaxAxes}; ++axis) {
    result.low[axis] = axes.low[axis];
    result.size[axis] = axes.size[axis];
  }
  return result;
}

// In voxels from the grid's low end.
template <int kAxes>
__device__ inline float PointPosition(const PointGrid& grid, const float* point, int axis) {
  return (point[kAxes - 1 - axis] - grid.low[axis]) / grid.size[axis];
}

}  // namespace rulebook::cuda
