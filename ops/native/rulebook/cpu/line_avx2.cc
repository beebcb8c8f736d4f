// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#include "line_kernels.h"

#if defined(__AVX2__)

#include <immintrin.h>

#include "line_loops.h"

namespace rulebook::cpu {
namespace {

struct Ints8 {
  static constexpr int64_t kLanes = 8;
  using Type = __m256i;

  static Type LoadSome(const int32_t* p, int64_t count) {
    return _mm256_maskload_epi32(p, FirstLanes(count));
  }
  static void StoreSome(int32_t* p, Type v, int64_t count) {
    _mm256_maskstore_epi32(p, FirstLanes(count), v);
  }
  static Type Broadcast(int32_t x) { return _mm256_set1_epi32(x); }
  static Type Subtract(Type a, Type b) { return _mm256_sub_epi32(a, b); }
  static Type Multiply(Type a, Type b) { return _mm256_mullo_epi32(a, b); }
  static Type SelectEqual(Type a, Type b, Type yes, Type no) {
    return _mm256_blendv_epi8(no, yes, _mm256_cmpeq_epi32(a, b));
  }

 private:
  static Type FirstLanes(int64_t count) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int32_t>(count)),
                              _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  }
};

}  // namespace

const LineKernels& Avx2LineKernels() {
  static constexpr LineKernels kernels = {Fill<Ints8>};
  return kernels;
}

}  // namespace rulebook::cpu

#else  // another processor family: the table exists, and is never chosen (isa.cc)

namespace rulebook::cpu {
const LineKernels& Avx2LineKernels() { return GenericLineKernels(); }
}  // namespace rulebook::cpu

#endif
