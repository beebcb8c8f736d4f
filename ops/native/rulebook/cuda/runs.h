// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// Rows sorted by where they go: those of one place are a run, which a thread folds in its order.
#pragma once

#include "device.h"

namespace rulebook::cuda {

// Sorted rows [begin, end).
struct Run {
  int32_t begin;
  int32_t end;
};

// combine(… combine(load(0), load(1)) …, load(count - 1)), for count > 0. Several loads are under
// way at once, as a run may have all the rows.
template <typename Load, typename Combine>
__device__ inline float FoldRun(int64_t count, const Load& load, const Combine& combine) {
  constexpr int kAhead = 8;
  float result = load(0);
  int64_t i = 1;
  for (; i + kAhead <= count; i += kAhead) {
    float values[kAhead];
#pragma unroll
    for (int j = 0; j < kAhead; ++j) values[j] = load(i + j);
#pragma unroll
    for (int j = 0; j < kAhead; ++j) result = combine(result, values[j]);
  }
  for (; i < count; ++i) result = combine(result, load(i));
  return result;
}

}  // namespace rulebook::cuda
