// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#include "conversion.h"

#include "conversion_kernels.h"
#include "parallel.h"
#include "rulebook/isa.h"

namespace rulebook::cpu {
namespace {

constexpr int64_t kElementsPerTask = 32768;

bool HasVectorConversions() {
#if defined(__x86_64__)
  return CurrentIsa() != Isa::kGeneric && __builtin_cpu_supports("f16c");
#else
  return false;
#endif
}

const ConversionKernels& Kernels() {
  static const ConversionKernels& kernels =
      HasVectorConversions() ? Avx2ConversionKernels() : GenericConversionKernels();
  return kernels;
}

template <typename From, typename To>
void Convert(CpuContext& context, const From* source, int64_t count, To* out,
             void (*convert)(const From*, int64_t, To*)) {
  ForBlocks(context, count, kElementsPerTask, [&](int64_t, int64_t begin, int64_t end) {
    convert(source + begin, end - begin, out + begin);
  });
}

}  // namespace

void Widen(CpuContext& context, const Float16* source, int64_t count, float* out) {
  Convert(context, source, count, out, Kernels().widen_half);
}

void Widen(CpuContext& context, const BFloat16* source, int64_t count, float* out) {
  Convert(context, source, count, out, Kernels().widen_bfloat);
}

void Narrow(CpuContext& context, const float* source, int64_t count, Float16* out) {
  Convert(context, source, count, out, Kernels().narrow_half);
}

void Narrow(CpuContext& context, const float* source, int64_t count, BFloat16* out) {
  Convert(context, source, count, out, Kernels().narrow_bfloat);
}

}  // namespace rulebook::cpu
