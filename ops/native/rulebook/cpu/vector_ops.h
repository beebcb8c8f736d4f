// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// Element-wise steps over the channels of one row, written so that compilers vectorise them. They
// do not depend on each other's channels: the result has the same bits at any vector width.
#pragma once

#include <cstdint>

namespace rulebook::cpu {

inline void AddInto(const float* __restrict source, int64_t channels, float* __restrict out) {
  for (int64_t c = 0; c < channels; ++c) out[c] += source[c];
}

// NaN wins and stays.
inline void MaxInto(const float* __restrict source, int64_t channels, float* __restrict out) {
  for (int64_t c = 0; c < channels; ++c) {
    const float value = source[c];
    const bool wins = (value > out[c]) | (value != value);  // NOLINT: | so that it has no branch
    out[c] = wins ? value : out[c];
  }
}

inline void ScaledAddInto(float scale, const float* __restrict source, int64_t channels,
                          float* __restrict out) {
  for (int64_t c = 0; c < channels; ++c) out[c] += scale * source[c];
}

inline void Divide(float divisor, int64_t channels, float* out) {
  for (int64_t c = 0; c < channels; ++c) out[c] /= divisor;
}

}  // namespace rulebook::cpu
