// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#include "voxgate_client/voxelize.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "text.h"

namespace voxgate {
namespace {

constexpr size_t kMaxAxes = 4;

// A voxel's place in the dense grid (row-major z, y, x) and a point in it.
using KeyPoint = std::pair<int64_t, size_t>;

// The operator holds the grid as float32; its rounding, half up, starts from those values.
double Single(double value) { return static_cast<double>(static_cast<float>(value)); }

void CheckSizes(const VoxelGrid& grid) {
  if (grid.axes() < 1 || grid.axes() > kMaxAxes || grid.point_range.size() != 2 * grid.axes()) {
    ThrowInvalid("point_range has ", grid.point_range.size(), " values and voxel_size ",
                 grid.axes(), ", expected 2 D and D with D from 1 to ", kMaxAxes);
  }
}

int64_t Cells(const VoxelGrid& grid, size_t column) {
  const double low = Single(grid.point_range[column]);
  const double high = Single(grid.point_range[grid.axes() + column]);
  const double size = Single(grid.voxel_size[column]);
  if (!std::isfinite(low) || !std::isfinite(high) || !(low < high)) {
    ThrowInvalid("point_range: axis ", column, " runs from ", low, " to ", high,
                 ", expected finite values with the second above the first");
  }
  if (!std::isfinite(size) || !(size > 0)) {
    ThrowInvalid("voxel_size: axis ", column, " has ", size, ", expected a finite value above 0");
  }
  const double cells = std::floor((high - low) / size + 0.5);
  if (!(cells >= 1 && cells <= std::numeric_limits<int32_t>::max())) {
    ThrowInvalid("point_range: axis ", column, " runs from ", low, " to ", high, ", ", cells,
                 " voxels of ", size, ", expected 1 to ", std::numeric_limits<int32_t>::max());
  }
  return static_cast<int64_t>(cells);
}

// (key, point) of the points inside the grid, by key and then in the order of the points.
std::vector<KeyPoint> SortPoints(const float* points, size_t count, size_t columns,
                                 const VoxelGrid& grid, const std::vector<int64_t>& shape) {
  const size_t axes = grid.axes();
  std::vector<float> low(axes);
  std::vector<float> size(axes);
  for (size_t axis = 0; axis < axes; ++axis) {
    low[axis] = static_cast<float>(grid.point_range[axes - 1 - axis]);
    size[axis] = static_cast<float>(grid.voxel_size[axes - 1 - axis]);
  }
  std::vector<KeyPoint> items;
  items.reserve(count);
  for (size_t p = 0; p < count; ++p) {
    const float* point = points + p * columns;
    int64_t key = 0;
    bool inside = true;
    for (size_t axis = 0; inside && axis < axes; ++axis) {
      // Compared before it is converted, which also turns away NaN and infinity.
      const double index = std::floor((point[axes - 1 - axis] - low[axis]) / size[axis]);
      inside = index >= 0 && index < static_cast<double>(shape[axis]);
      if (inside) key = key * shape[axis] + static_cast<int64_t>(index);
    }
    if (inside) items.emplace_back(key, p);
  }
  std::sort(items.begin(), items.end());
  return items;
}

}  // namespace

std::vector<int64_t> VoxelGrid::Shape() const {
  CheckSizes(*this);
  std::vector<int64_t> shape;
  int64_t cells = 1;
  for (size_t column = axes(); column-- > 0;) {
    shape.push_back(Cells(*this, column));
    if (cells > std::numeric_limits<int64_t>::max() / shape.back()) {
      ThrowInvalid("point_range and voxel_size: more than 2^63 - 1 cells");
    }
    cells *= shape.back();
  }
  return shape;
}

bool Voxels::FitsInt16() const {
  return std::all_of(coords.begin(), coords.end(), [](int32_t coordinate) {
    return coordinate >= std::numeric_limits<int16_t>::min() &&
           coordinate <= std::numeric_limits<int16_t>::max();
  });
}

Voxels Voxelize(const float* points, size_t count, size_t columns, const VoxelGrid& grid) {
  const std::vector<int64_t> shape = grid.Shape();
  const size_t axes = grid.axes();
  if (columns < axes) {
    ThrowInvalid("points have ", columns, " columns, expected at least ", axes,
                 ", one for each axis of the grid");
  }
  const std::vector<KeyPoint> items = SortPoints(points, count, columns, grid, shape);
  Voxels voxels;
  voxels.axes = axes;
  voxels.columns = columns;
  std::vector<double> sums(columns);
  for (size_t begin = 0, end = 0; begin < items.size(); begin = end) {
    std::fill(sums.begin(), sums.end(), 0.0);
    int64_t rest = items[begin].first;
    for (end = begin; end < items.size() && items[end].first == rest; ++end) {
      const float* point = points + items[end].second * columns;
      for (size_t c = 0; c < columns; ++c) sums[c] += static_cast<double>(point[c]);
    }
    for (const double sum : sums) {
      voxels.features.push_back(static_cast<float>(sum / static_cast<double>(end - begin)));
    }
    voxels.coords.resize(voxels.coords.size() + axes);
    int32_t* const coords = voxels.coords.data() + voxels.coords.size() - axes;
    for (size_t axis = axes; axis-- > 0;) {
      coords[axis] = static_cast<int32_t>(rest % shape[axis]);
      rest /= shape[axis];
    }
  }
  return voxels;
}

}  // namespace voxgate
