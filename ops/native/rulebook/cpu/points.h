// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// Points on a voxel grid: what Voxelize and SparseInterpolate share.
#pragma once

#include <array>
#include <cstdint>

#include "rulebook/shape.h"
#include "rulebook/voxel_grid.h"

namespace rulebook::cpu {

struct PointsView {
  const float* data;  // [count, fields]
  int64_t count;
  int64_t fields;
  const int32_t* batch;  // [count]

  const float* row(int64_t p) const { return data + p * fields; }
};

// The grid's numbers in coords order: axis 0 is the points' last spatial column.
struct GridAxes {
  std::array<float, kMaxAxes> low{};
  std::array<float, kMaxAxes> size{};

  explicit GridAxes(const VoxelGrid& grid) {
    const size_t axes = grid.voxel_size.size();
    for (size_t axis = 0; axis < axes; ++axis) {
      low[axis] = grid.range[axes - 1 - axis];
      size[axis] = grid.voxel_size[axes - 1 - axis];
    }
  }

  // (p - lo) / voxel_size in float32, a true division: a reciprocal would round differently.
  template <size_t kAxes>
  float Position(const float* point, size_t axis) const {
    return (point[kAxes - 1 - axis] - low[axis]) / size[axis];
  }
};

inline void CheckPoints(const PointsView& points, int axes) {
  if (points.fields < axes) {
    ThrowInvalid("points: ", points.fields, " columns, expected at least ", axes);
  }
  if (points.count > kMaxSites) {
    ThrowTooLarge("points: ", points.count, " rows are over the limit ", kMaxSites);
  }
}

[[noreturn]] inline void ThrowPointBatch(int64_t p, int32_t batch) {
  ThrowInvalid("point_batch: point_batch[", p, "] is ", batch, ", not in [0, ", kMaxBatchSize, ")");
}

inline void CheckPointBatch(const PointsView& points, int64_t p) {
  const int32_t batch = points.batch[p];
  if (batch < 0 || batch >= kMaxBatchSize) ThrowPointBatch(p, batch);
}

}  // namespace rulebook::cpu
