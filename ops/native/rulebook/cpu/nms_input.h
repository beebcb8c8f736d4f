// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// What RotatedNms refuses and which boxes take part, on both devices.
#pragma once

#include <cmath>

#include "bev_box.h"
#include "rulebook/nms.h"
#include "rulebook/shape.h"

namespace rulebook::cpu {

inline constexpr int64_t kBoxFields = 7;

inline void CheckNms(int64_t rows, const NmsOptions& options) {
  if (std::isnan(options.iou_threshold)) ThrowInvalid("iou_threshold: NaN");
  if (std::isnan(options.score_threshold)) ThrowInvalid("score_threshold: NaN");
  if (options.max_per_frame < 0) {
    ThrowInvalid("max_per_frame: ", options.max_per_frame, " is below 0");
  }
  if (rows > kMaxSites) ThrowTooLarge("boxes: ", rows, " rows are over the limit ", kMaxSites);
}

// A network's bad box must not fail the frames that share its batch, so it drops out like a score
// below the threshold.
VOXGATE_HOST_DEVICE inline bool TakesPart(const float* box, float score, float score_threshold) {
  bool finite = true;
  for (int64_t i = 0; i < kBoxFields; ++i) finite = finite && std::isfinite(box[i]);
  return finite && score >= score_threshold;
}

}  // namespace rulebook::cpu
