// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// Loops over blocks of rows. Block sizes are fixed numbers, never a function of the thread count,
// so what a task computes is the same however many threads there are.
#pragma once

#include <algorithm>
#include <cstdint>

#include "rulebook/context.h"

namespace rulebook::cpu {

inline int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Calls body(block, begin, end) for consecutive blocks of [0, total).
template <typename Body>
void ForBlocks(CpuContext& context, int64_t total, int64_t block_size, const Body& body) {
  auto task = [&](int64_t block) {
    const int64_t begin = block * block_size;
    body(block, begin, std::min(begin + block_size, total));
  };
  context.ParallelFor(CeilDiv(total, block_size), task);
}

// Rows of `channels` elements that make a task worth handing out.
inline int64_t RowsPerTask(int64_t channels) {
  constexpr int64_t kElementsPerTask = 32768;
  return std::max<int64_t>(64, kElementsPerTask / std::max<int64_t>(1, channels));
}

}  // namespace rulebook::cpu
