// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#include "line_kernels.h"

#if defined(__AVX512F__)

#include <immintrin.h>

#include "line_loops.h"

namespace rulebook::cpu {
namespace {

struct Ints16 {
  static constexpr int64_t kLanes = 16;
  using Type = __m512i;

  static Type LoadSome(const int32_t* p, int64_t count) {
    return _mm512_maskz_loadu_epi32(FirstLanes(count), p);
  }
  static void StoreSome(int32_t* p, Type v, int64_t count) {
    _mm512_mask_storeu_epi32(p, FirstLanes(count), v);
  }
  static Type Broadcast(int32_t x) { return _mm512_set1_epi32(x); }
  static Type Subtract(Type a, Type b) { return _mm512_sub_epi32(a, b); }
  static Type Multiply(Type a, Type b) { return _mm512_mullo_epi32(a, b); }
  static Type SelectEqual(Type a, Type b, Type yes, Type no) {
    return _mm512_mask_mov_epi32(no, _mm512_cmpeq_epi32_mask(a, b), yes);
  }

 private:
  static __mmask16 FirstLanes(int64_t count) {
    return static_cast<__mmask16>((uint32_t{1} << count) - 1);
  }
};

}  // namespace

const LineKernels& Avx512LineKernels() {
  static constexpr LineKernels kernels = {Fill<Ints16>};
  return kernels;
}

}  // namespace rulebook::cpu

#else  // another processor family: the table exists, and is never chosen (isa.cc)

namespace rulebook::cpu {
const LineKernels& Avx512LineKernels() { return GenericLineKernels(); }
}  // namespace rulebook::cpu

#endif
