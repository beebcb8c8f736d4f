// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// Arrays of 16-bit floats as float32, and back. Rounding is to the nearest, ties to even; what is
// too large becomes infinite and NaN stays NaN.
#pragma once

#include <cstdint>
#include <optional>

#include "rulebook/context.h"
#include "rulebook/half.h"
#include "wide_buffer.h"

namespace rulebook::cpu {

void Widen(CpuContext& context, const Float16* source, int64_t count, float* out);
void Widen(CpuContext& context, const BFloat16* source, int64_t count, float* out);
void Narrow(CpuContext& context, const float* source, int64_t count, Float16* out);
void Narrow(CpuContext& context, const float* source, int64_t count, BFloat16* out);

// A float32 copy of 16-bit elements; null for null.
class Widened {
 public:
  template <typename T>
  Widened(CpuContext& context, const T* source, int64_t count) {
    if (source == nullptr) return;
    buffer_.emplace(count);
    Widen(context, source, count, buffer_->get());
  }

  const float* get() const { return buffer_ ? buffer_->get() : nullptr; }

 private:
  std::optional<WideBuffer> buffer_;
};

// Lets compute(float*) write `count` values and rounds them, once, into out.
template <typename T, typename Compute>
void Rounded(CpuContext& context, int64_t count, T* out, const Compute& compute) {
  const WideBuffer wide(count);
  compute(wide.get());
  Narrow(context, wide.get(), count, out);
}

}  // namespace rulebook::cpu
