// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#include "convolution_loops.h"

namespace rulebook::cpu {
namespace {

// Four floats in the compiler's own vector type: SSE2 on x86-64, NEON on Arm, scalars elsewhere.
struct Vec4 {
  static constexpr int kLanes = 4;
  typedef float Type __attribute__((vector_size(16)));
  typedef float Unaligned __attribute__((vector_size(16), aligned(4), may_alias));

  static Type Load(const float* p) { return *reinterpret_cast<const Unaligned*>(p); }
  static void Store(float* p, Type v) { *reinterpret_cast<Unaligned*>(p) = v; }
  static Type Broadcast(float x) { return Type{x, x, x, x}; }
  static Type MultiplyAdd(Type a, Type b, Type c) { return a * b + c; }
  static Type Relu(Type v) { return v < 0.0F ? Type{} : v; }
};

void Accumulate(const float* features, int64_t feature_stride, int64_t in_channels,
                const TilePairs& pairs, Panel panel, float* sums, int64_t sum_stride) {
  if (panel.width == 8) {
    AccumulatePanel<Vec4, 6, 2>(features, feature_stride, in_channels, pairs, panel.weight, sums,
                                sum_stride);
  } else {
    AccumulatePanel<Vec4, 8, 1>(features, feature_stride, in_channels, pairs, panel.weight, sums,
                                sum_stride);
  }
}

}  // namespace

const ConvKernels& GenericConvKernels() {
  static constexpr ConvKernels kernels = {
      /*lanes=*/4,      /*max_panel_width=*/8,
      /*pair_slack=*/1, FindPairsScalar,
      Accumulate,       AccumulateDepthwise<Vec4>,
      FillRows<Vec4>,   Relu<Vec4>,
  };
  return kernels;
}

}  // namespace rulebook::cpu
