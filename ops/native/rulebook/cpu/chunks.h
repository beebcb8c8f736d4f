// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>

namespace rulebook::cpu {

// [0, size) cut into pieces of `piece`: the tasks of one ParallelFor.
class Chunks {
 public:
  Chunks(int64_t size, int64_t piece) : size_(size), piece_(piece) {}

  int64_t count() const { return (size_ + piece_ - 1) / piece_; }
  int64_t begin(int64_t task) const { return task * piece_; }
  int64_t end(int64_t task) const { return std::min(size_, (task + 1) * piece_); }

 private:
  int64_t size_, piece_;
};

}  // namespace rulebook::cpu
