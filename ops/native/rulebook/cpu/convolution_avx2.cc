// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#include "convolution_kernels.h"

#if defined(__AVX2__) && defined(__FMA__)

#include <immintrin.h>

#include "convolution_loops.h"

namespace rulebook::cpu {
namespace {

struct Vec8 {
  static constexpr int kLanes = 8;
  using Type = __m256;

  static Type Load(const float* p) { return _mm256_loadu_ps(p); }
  static void Store(float* p, Type v) { _mm256_storeu_ps(p, v); }
  static Type Broadcast(float x) { return _mm256_set1_ps(x); }
  static Type MultiplyAdd(Type a, Type b, Type c) { return _mm256_fmadd_ps(a, b, c); }
  // The second operand is the result where one is NaN.
  static Type Relu(Type v) { return _mm256_max_ps(_mm256_setzero_ps(), v); }
};

void Accumulate(const float* features, int64_t feature_stride, int64_t in_channels,
                const TilePairs& pairs, Panel panel, float* sums, int64_t sum_stride) {
  if (panel.width == 16) {
    AccumulatePanel<Vec8, 6, 2>(features, feature_stride, in_channels, pairs, panel.weight, sums,
                                sum_stride);
  } else {
    AccumulatePanel<Vec8, 8, 1>(features, feature_stride, in_channels, pairs, panel.weight, sums,
                                sum_stride);
  }
}

}  // namespace

const ConvKernels& Avx2ConvKernels() {
  static constexpr ConvKernels kernels = {
      /*lanes=*/8,      /*max_panel_width=*/16,
      /*pair_slack=*/1, FindPairsScalar,
      Accumulate,       AccumulateDepthwise<Vec8>,
      FillRows<Vec8>,   Relu<Vec8>,
  };
  return kernels;
}

}  // namespace rulebook::cpu

#else  // another processor family: the table exists, and is never chosen (isa.cc)

namespace rulebook::cpu {
const ConvKernels& Avx2ConvKernels() { return GenericConvKernels(); }
}  // namespace rulebook::cpu

#endif
