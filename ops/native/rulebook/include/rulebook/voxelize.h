// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "rulebook/context.h"
#include "rulebook/voxel_grid.h"

namespace rulebook {

enum class VoxelReduce { kMean, kMax, kSum, kFirst };

struct VoxelizeOptions {
  VoxelGrid grid;
  VoxelReduce reduce = VoxelReduce::kMean;
  int64_t max_points = 0;  // points reduced per voxel, the first ones; 0 = all
  int64_t max_voxels = 0;  // voxels kept per batch index, by first appearance; 0 = all
};

struct Voxels {
  int32_t* coords;  // [V, 1 + axes], canonical
  float* features;  // [V, F]
};

// points [P, F] (columns 0 … axes-1 are x, y, z), point_batch [P] in any order. index =
// floor((p - lo) / voxel_size) in float32; a point is kept iff 0 <= index < Shape() on every axis,
// so non-finite positions are out. All F columns are reduced, in point order. point_voxel [P]: the
// point's row of Voxels, -1 when out of range or its voxel was dropped (a point beyond max_points
// keeps its voxel). Throws for a negative batch index. `allocate(V)` is called once.
template <Device D>
void Voxelize(Context<D>& context, const float* points, int64_t num_points, int64_t num_fields,
              const int32_t* point_batch, const VoxelizeOptions& options, int32_t* point_voxel,
              FunctionRef<Voxels(int64_t)> allocate);

}  // namespace rulebook
