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

// The upper halves of eight floats, rounded to nearest, ties to even.
__m256i RoundBfloat(__m256 value) {
  const __m256i bits = _mm256_castps_si256(value);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7FFF)));
  const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(kQuiet));
  const __m256 is_nan = _mm256_cmp_ps(value, value, _CMP_UNORD_Q);
  const __m256i chosen = _mm256_blendv_epi8(rounded, quiet, _mm256_castps_si256(is_nan));
  return _mm256_srli_epi32(chosen, 16);
}

void NarrowBfloat(const float* source, int64_t count, BFloat16* out) {
  int64_t i = 0;
  for (; i + 2 * kLanes <= count; i += 2 * kLanes) {
    const __m256i packed = _mm256_packus_epi32(RoundBfloat(_mm256_loadu_ps(source + i)),
                                               RoundBfloat(_mm256_loadu_ps(source + i + kLanes)));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + i),
                        _mm256_permute4x64_epi64(packed, 0b11011000));
  }
  NarrowAll(source + i, count - i, out + i);
}

}  // namespace

const ConversionKernels& Avx2ConversionKernels() {
  static constexpr ConversionKernels kernels = {WidenHalf, NarrowHalf, WidenAll<BFloat16>,
                                                NarrowBfloat};
  return kernels;
}

}  // namespace rulebook::cpu

#else  // another processor family: the table exists, and is never chosen (conversion.cc)

namespace rulebook::cpu {
const ConversionKernels& Avx2ConversionKernels() { return GenericConversionKernels(); }
}  // namespace rulebook::cpu

#endif
