// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#include "wide_buffer.h"

#include <algorithm>
#include <utility>
#include <vector>

namespace rulebook::cpu {
namespace {

constexpr int64_t kMostFloats = int64_t{1} << 25;
constexpr size_t kMostBlocks = 16;

struct Block {
  AlignedFloats memory;
  int64_t capacity;
};

// What a thread keeps, the oldest first.
struct Kept {
  Kept() { blocks.reserve(kMostBlocks); }

  Block Take(size_t place) {
    Block block = std::move(blocks[place]);
    blocks.erase(blocks.begin() + static_cast<std::ptrdiff_t>(place));
    floats -= block.capacity;
    return block;
  }

  std::vector<Block> blocks;
  int64_t floats = 0;
};

Kept& ThisThreads() {
  static thread_local Kept kept;
  return kept;
}

}  // namespace

WideBuffer::WideBuffer(int64_t count) {
  Kept& kept = ThisThreads();
  size_t best = kMostBlocks;  // the smallest that is large enough
  for (size_t i = 0; i < kept.blocks.size(); ++i) {
    const int64_t capacity = kept.blocks[i].capacity;
    if (capacity < count) continue;
    if (best == kMostBlocks || capacity < kept.blocks[best].capacity) best = i;
  }
  if (best < kMostBlocks) {
    Block block = kept.Take(best);
    memory_ = std::move(block.memory);
    capacity_ = block.capacity;
    return;
  }
  capacity_ = std::max<int64_t>(count, 0) / 4 * 5 + 64;  // the next frame may be a little larger
  memory_ = AllocateFloats(capacity_);
}

WideBuffer::~WideBuffer() {
  if (capacity_ > kMostFloats) return;
  Kept& kept = ThisThreads();
  while (kept.blocks.size() == kMostBlocks || kept.floats + capacity_ > kMostFloats) kept.Take(0);
  kept.blocks.push_back({std::move(memory_), capacity_});
  kept.floats += capacity_;
}

}  // namespace rulebook::cpu
