// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// Threads for rows of features: up to a warp of neighbouring threads for each row, which walk its
// channels side by side. No division finds a thread's place, whatever the number of channels.
#pragma once

#include "device.h"

namespace rulebook::cuda {

// 2^shift threads for each row.
struct RowLanes {
  int shift;
};

inline RowLanes LanesFor(int64_t channels) {
  RowLanes lanes{0};
  while ((1 << lanes.shift) < kWarpSize && (int64_t{1} << lanes.shift) < channels) ++lanes.shift;
  return lanes;
}

inline LaunchShape LanesForEach(int64_t rows, RowLanes lanes) {
  return OneThreadEach(rows << lanes.shift);
}

__device__ inline int64_t LaneRow(RowLanes lanes) { return GlobalThread() >> lanes.shift; }

// The channels of this thread are LaneFirst, LaneFirst + LaneStep, …
__device__ inline int64_t LaneFirst(RowLanes lanes) {
  return GlobalThread() & ((int64_t{1} << lanes.shift) - 1);
}
__device__ inline int64_t LaneStep(RowLanes lanes) { return int64_t{1} << lanes.shift; }

}  // namespace rulebook::cuda
