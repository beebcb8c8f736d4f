// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// One axis of a convolution: which coordinates of the input feed which of the output.
#pragma once

#include <algorithm>
#include <cstdint>

#include "rulebook/rulebook.h"

namespace rulebook::cpu {

struct AxisRelation {
  int64_t kernel, stride, padding, dilation, out_size;
  bool transposed;

  AxisRelation(const ConvGeometry& geometry, const SpatialShape& out_shape, int axis)
      : kernel(geometry.kernel_size[axis]),
        stride(geometry.stride[axis]),
        padding(geometry.padding[axis]),
        dilation(geometry.dilation[axis]),
        out_size(out_shape[axis]),
        transposed(geometry.transposed) {
    while ((int64_t{1} << stride_shift_) < stride) ++stride_shift_;
    stride_is_power_of_two_ = (int64_t{1} << stride_shift_) == stride;
  }

  int64_t reach() const { return dilation * (kernel - 1); }

  // Whether every output between FirstOutput(i) and LastOutput(i) is fed by i.
  bool FeedsRuns() const { return dilation == 1; }

  // Bounds on the outputs that input i can feed (not clipped to the grid).
  int64_t FirstOutput(int64_t i) const {
    return transposed ? i * stride - padding : DivideByStride(i + padding - reach() + stride - 1);
  }
  int64_t LastOutput(int64_t i) const {
    return transposed ? i * stride - padding + reach() : DivideByStride(i + padding);
  }

  // Calls visit(o) for every output in [low, high) and in the grid that input i feeds; low >= 0.
  template <typename Visit>
  void ForEachOutput(int64_t i, int64_t low, int64_t high, Visit visit) const {
    high = std::min(high, out_size);
    if (FeedsRuns()) {
      const int64_t last = std::min(LastOutput(i), high - 1);
      for (int64_t o = std::max(FirstOutput(i), low); o <= last; ++o) visit(o);
      return;
    }
    // By kernel index, not by output: a wide dilation feeds few of the outputs it spans.
    const int64_t base = transposed ? i * stride - padding : i + padding;
    const int64_t nearest = transposed ? low - base : base - (high - 1) * stride;
    const int64_t farthest = transposed ? high - 1 - base : base - low * stride;
    const int64_t first = nearest > 0 ? (nearest + dilation - 1) / dilation * dilation : 0;
    for (int64_t d = first; d <= std::min(farthest, reach()); d += dilation) {
      if (transposed) {
        visit(base + d);
      } else if ((base - d) % stride == 0) {
        visit((base - d) / stride);
      }
    }
  }

 private:
  // Rounds down, also below zero.
  int64_t DivideByStride(int64_t a) const {
    if (stride_is_power_of_two_) return a >> stride_shift_;
    return a >= 0 ? a / stride : -((stride - 1 - a) / stride);
  }

  int stride_shift_ = 0;
  bool stride_is_power_of_two_ = false;
};

}  // namespace rulebook::cpu
