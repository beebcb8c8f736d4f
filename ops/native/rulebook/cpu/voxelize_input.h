// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// What Voxelize refuses before it looks at a point, on both devices.
#pragma once

#include "points.h"
#include "rulebook/voxelize.h"

namespace rulebook::cpu {

inline void CheckVoxelize(const PointsView& points, const VoxelizeOptions& options) {
  CheckPoints(points, options.grid.axes());
  if (options.max_points < 0) ThrowInvalid("max_points: ", options.max_points, " is below 0");
  if (options.max_voxels < 0) ThrowInvalid("max_voxels: ", options.max_voxels, " is below 0");
}

}  // namespace rulebook::cpu
