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

  // Calls visit(o) for every output in [low, high) and in the grid that input i feeds.
  template <typename Visit>
  void ForEachOutput(int64_t i, int64_t low, int64_t high, Visit visit) const {
    const int64_t first = FirstOutput(i);
    const int64_t last = std::min(LastOutput(i), std::min(high, out_size) - 1);
    // Outputs are `step` apart when transposed; otherwise dilation leaves only some of a run.
    const int64_t step = transposed ? dilation : 1;
    for (int64_t o = first; o <= last; o += step) {
      if (o < low) continue;
      if (!transposed && dilation > 1 && (i + padding - o * stride) % dilation != 0) continue;
      visit(o);
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
