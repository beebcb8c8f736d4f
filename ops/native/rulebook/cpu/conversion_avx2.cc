// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#include "conversion_kernels.h"

#if defined(__AVX2__) && defined(__F16C__)

#include <immintrin.h>

#include "conversion_loops.h"

namespace rulebook::cpu {
namespace {

constexpr int64_t kLanes = 8;

void WidenHalf(const Float16* source, int64_t count, float* out) {
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    const __m128i halves = _mm_loadu_si128(reinterpret_cast<const __m128i*>(source + i));
    _mm256_storeu_ps(out + i, _mm256_cvtph_ps(halves));
  }
  WidenAll(source + i, count - i, out + i);
}

void NarrowHalf(const float* source, int64_t count, Float16* out) {
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    const __m128i halves = _mm256_cvtps_ph(_mm256_loadu_ps(source + i), _MM_FROUND_TO_NEAREST_INT);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + i), halves);
  }
  NarrowAll(source + i, count - i, out + i);
}

}  // namespace

const ConversionKernels& Avx2ConversionKernels() {
  static constexpr ConversionKernels kernels = {WidenHalf, NarrowHalf};
  return kernels;
}

}  // namespace rulebook::cpu

#else  // another processor family: the table exists, and is never chosen (conversion.cc)

namespace rulebook::cpu {
const ConversionKernels& Avx2ConversionKernels() { return GenericConversionKernels(); }
}  // namespace rulebook::cpu

#endif
