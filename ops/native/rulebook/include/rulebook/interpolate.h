// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "rulebook/context.h"
#include "rulebook/coords.h"
#include "rulebook/voxel_grid.h"

namespace rulebook {

enum class InterpolateMode { kNearest, kTrilinear };
enum class InterpolateAnchor { kCenter, kCorner };

struct InterpolateOptions {
  VoxelGrid grid;
  InterpolateMode mode = InterpolateMode::kTrilinear;
  // Where in its voxel a site's feature sits: kCenter puts site i at lo + (i + 0.5) * voxel_size,
  // kCorner at lo + i * voxel_size.
  InterpolateAnchor anchor = InterpolateAnchor::kCenter;
  bool normalize = true;  // divide by the sum of the weights of the corners that are present
};

// out [P, channels]: features of canonical `coords` sampled at points [P, num_fields >= axes].
// Absent corners drop out; a point with none present (or a non-finite position) gives 0. Throws for
// a batch index outside [0, kMaxBatchSize).
template <Device D, typename T>
void SparseInterpolate(Context<D>& context, CoordsView coords, const T* features, int64_t channels,
                       const float* points, int64_t num_points, int64_t num_fields,
                       const int32_t* point_batch, const InterpolateOptions& options, T* out);

}  // namespace rulebook
