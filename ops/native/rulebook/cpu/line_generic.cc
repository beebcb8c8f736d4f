// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#include "line_loops.h"

namespace rulebook::cpu {
namespace {

// Four ints in the compiler's own vector type: SSE2 on x86-64, NEON on Arm, scalars elsewhere.
struct Ints4 {
  static constexpr int64_t kLanes = 4;
  typedef int32_t Type __attribute__((vector_size(16)));

  static Type LoadSome(const int32_t* p, int64_t count) {
    Type v = {};
    for (int64_t lane = 0; lane < count; ++lane) v[lane] = p[lane];
    return v;
  }
  static void StoreSome(int32_t* p, Type v, int64_t count) {
    for (int64_t lane = 0; lane < count; ++lane) p[lane] = v[lane];
  }
  static Type Broadcast(int32_t x) { return Type{x, x, x, x}; }
  static Type Subtract(Type a, Type b) { return a - b; }
  static Type Multiply(Type a, Type b) { return a * b; }
  static Type SelectEqual(Type a, Type b, Type yes, Type no) { return a == b ? yes : no; }
};

}  // namespace

const LineKernels& GenericLineKernels() {
  static constexpr LineKernels kernels = {Fill<Ints4>};
  return kernels;
}

const LineKernels& LineKernelsOf(Isa isa) {
  switch (isa) {
    case Isa::kAmx:
    case Isa::kAvx512:
      return Avx512LineKernels();
    case Isa::kAvx2:
      return Avx2LineKernels();
    case Isa::kGeneric:
      break;
  }
  return GenericLineKernels();
}

}  // namespace rulebook::cpu
