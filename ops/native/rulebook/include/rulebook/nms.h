// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "rulebook/context.h"

namespace rulebook {

struct NmsOptions {
  float iou_threshold = 0.5F;
  float score_threshold = 0.0F;
  int64_t max_per_frame = 0;  // 0 = all
};

// Greedy non-maximum suppression of rotated boxes in the x-y plane, each frame on its own.
// boxes float32 [R, 7] (x, y, z, dx, dy, dz, yaw in radians), scores [R], frame [R]. A box takes
// part iff its score >= score_threshold and all its values are finite (a NaN score never does); it
// is suppressed when its bird's-eye-view IoU with a kept box of its frame is > iou_threshold. kept:
// indices into boxes, by (frame ascending, score descending, index ascending). A box without area
// overlaps nothing. Throws for a NaN threshold. Devices may differ where an IoU is within float64
// rounding of the threshold: sine and cosine are each device's own. `allocate(Q)` is called once.
template <Device D>
void RotatedNms(Context<D>& context, const float* boxes, const float* scores, const int32_t* frame,
                int64_t rows, const NmsOptions& options, FunctionRef<int64_t*(int64_t)> allocate);

}  // namespace rulebook
