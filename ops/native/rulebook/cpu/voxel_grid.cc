// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#include "rulebook/voxel_grid.h"

#include <cmath>
#include <limits>

namespace rulebook {
namespace {

// Float64, so that how many cells fit is decided by the float32 values alone.
double Cells(const VoxelGrid& grid, size_t column) {
  const double low = grid.range[column];
  const double high = grid.range[column + grid.voxel_size.size()];
  return std::floor((high - low) / double{grid.voxel_size[column]} + 0.5);
}

}  // namespace

void VoxelGrid::Check() const {
  const size_t count = voxel_size.size();
  if (count < 1 || count > size_t{kMaxAxes}) {
    ThrowInvalid("voxel_size: ", count, " values, expected 1 to ", kMaxAxes);
  }
  if (range.size() != 2 * count) {
    ThrowInvalid("point_range: ", range.size(), " values, expected ", 2 * count,
                 ", two for each of voxel_size");
  }
  for (size_t column = 0; column < count; ++column) {
    const float low = range[column];
    const float high = range[column + count];
    const float size = voxel_size[column];
    if (!std::isfinite(low) || !std::isfinite(high) || !(high > low)) {
      ThrowInvalid("point_range: axis ", column, " runs from ", low, " to ", high,
                   ", expected finite values with the second above the first");
    }
    if (!std::isfinite(size) || !(size > 0.0F)) {
      ThrowInvalid("voxel_size: axis ", column, " has ", size, ", expected a finite value above 0");
    }
    const double cells = Cells(*this, column);
    if (cells < 1.0 || cells > std::numeric_limits<int32_t>::max()) {
      ThrowInvalid("point_range: axis ", column, " runs from ", low, " to ", high, ", ", cells,
                   " voxels of ", size, ", not in [1, ", std::numeric_limits<int32_t>::max(), "]");
    }
  }
}

SpatialShape VoxelGrid::Shape() const {
  Check();
  SpatialShape shape;
  shape.axes = axes();
  for (int axis = 0; axis < shape.axes; ++axis) {
    shape[axis] = static_cast<int64_t>(Cells(*this, static_cast<size_t>(shape.axes - 1 - axis)));
  }
  CheckSpatialShape(shape);
  return shape;
}

}  // namespace rulebook
