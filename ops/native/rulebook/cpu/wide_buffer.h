// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "packed_weight.h"

namespace rulebook::cpu {

// Uninitialised memory for floats, which its thread keeps for the next one: fresh pages for every
// layer of every frame cost more than the conversions that need them (measured: 50 of 65 ms for
// 41 k rows of 64 channels). A thread keeps at most 128 MiB.
class WideBuffer {
 public:
  explicit WideBuffer(int64_t count);
  ~WideBuffer();
  WideBuffer(const WideBuffer&) = delete;
  WideBuffer& operator=(const WideBuffer&) = delete;

  float* get() const { return memory_.get(); }

 private:
  AlignedFloats memory_;
  int64_t capacity_;
};

}  // namespace rulebook::cpu
