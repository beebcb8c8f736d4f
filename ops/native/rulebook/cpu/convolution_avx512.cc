// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#include "convolution_kernels.h"

#if defined(__AVX512F__)

#include <immintrin.h>

#include "convolution_loops.h"

namespace rulebook::cpu {
namespace {

struct Vec16 {
  static constexpr int kLanes = 16;
  using Type = __m512;

  static Type Load(const float* p) { return _mm512_loadu_ps(p); }
  static void Store(float* p, Type v) { _mm512_storeu_ps(p, v); }
  static Type Broadcast(float x) { return _mm512_set1_ps(x); }
  static Type MultiplyAdd(Type a, Type b, Type c) { return _mm512_fmadd_ps(a, b, c); }
  // The second operand is the result where one is NaN.
  static Type Relu(Type v) { return _mm512_max_ps(_mm512_setzero_ps(), v); }
};

// Sixteen cells a step. Whole vectors are stored and the next step overwrites what was no pair:
// compressing in a register is fast everywhere, compressing into memory is not.
bool FindPairs(const int32_t* neighbors, int64_t rows, int32_t inputs, const int32_t* next,
               TilePairs& pairs) {
  const __m512i sixteen = _mm512_set1_epi32(16);
  __m512i row = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  const __m512i none = _mm512_set1_epi32(-1);
  const __m512i limit = _mm512_set1_epi32(inputs);
  unsigned outside = 0;
  int64_t count = 0;
  for (int64_t begin = 0; begin < rows; begin += 16) {
    __builtin_prefetch(next + begin);
    const int64_t left = rows - begin;
    const auto valid = static_cast<__mmask16>(left >= 16 ? 0xFFFF : (1 << left) - 1);
    const __m512i i = _mm512_mask_loadu_epi32(none, valid, neighbors + begin);
    const __mmask16 pair = _mm512_cmpge_epi32_mask(i, _mm512_setzero_si512());
    _mm512_storeu_si512(pairs.in_row + count, _mm512_maskz_compress_epi32(pair, i));
    _mm512_storeu_si512(pairs.out_row + count, _mm512_maskz_compress_epi32(pair, row));
    // GCC 12 was seen to spill the mask as 16 bits and to count 32 of the stack, so an instruction
    // of ours takes it to a general register, whose upper half that clears.
    unsigned pair_bits;
    asm("kmovw %1, %0" : "=r"(pair_bits) : "k"(pair));
    count += __builtin_popcount(pair_bits);
    outside |= _mm512_cmplt_epi32_mask(i, none) | _mm512_cmpge_epi32_mask(i, limit);
    row = _mm512_add_epi32(row, sixteen);
  }
  pairs.count = count;
  return outside == 0;
}

void Accumulate(const float* features, int64_t feature_stride, int64_t in_channels,
                const TilePairs& pairs, Panel panel, float* sums, int64_t sum_stride) {
  switch (panel.width) {
    case 64:
      return AccumulatePanel<Vec16, 6, 4>(features, feature_stride, in_channels, pairs,
                                          panel.weight, sums, sum_stride);
    case 48:
      return AccumulatePanel<Vec16, 8, 3>(features, feature_stride, in_channels, pairs,
                                          panel.weight, sums, sum_stride);
    case 32:
      return AccumulatePanel<Vec16, 10, 2>(features, feature_stride, in_channels, pairs,
                                           panel.weight, sums, sum_stride);
    default:
      return AccumulatePanel<Vec16, 10, 1>(features, feature_stride, in_channels, pairs,
                                           panel.weight, sums, sum_stride);
  }
}

}  // namespace

const ConvKernels& Avx512ConvKernels() {
  static constexpr ConvKernels kernels = {
      /*lanes=*/16,      /*max_panel_width=*/64,
      /*pair_slack=*/16, FindPairs,
      Accumulate,        AccumulateDepthwise<Vec16>,
      FillRows<Vec16>,   Relu<Vec16>,
  };
  return kernels;
}

}  // namespace rulebook::cpu

#else  // another processor family: the table exists, and is never chosen (isa.cc)

namespace rulebook::cpu {
const ConvKernels& Avx512ConvKernels() { return GenericConvKernels(); }
}  // namespace rulebook::cpu

#endif
