// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// RotatedNms with the size of its waves as an argument, so that tests see many of them.
#pragma once

#include "device.h"
#include "rulebook/nms.h"

namespace rulebook::cuda {

constexpr int64_t kTileBoxes = 64;
constexpr int64_t kMaxWave = 64 * kTileBoxes;

// wave: a multiple of kTileBoxes up to kMaxWave.
void RotatedNmsInWaves(CudaContext& context, const float* boxes, const float* scores,
                       const int32_t* frame, int64_t rows, const NmsOptions& options, int64_t wave,
                       FunctionRef<int64_t*(int64_t)> allocate);

}  // namespace rulebook::cuda
