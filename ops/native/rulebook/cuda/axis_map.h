// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// cpu/axis_relation.h on the device: which coordinates of the input feed which of the output, per
// axis and in both directions.
#pragma once

#include <numeric>
#include <utility>

#include "device.h"
#include "rulebook/rulebook.h"

namespace rulebook::cuda {

// One axis. A regular convolution takes input i to an output through those kernel indices k with
// k * dilation = i + padding modulo stride: none, or every `step`-th. A transposed one takes it to
// an output through every k: step 1.
struct AxisMap {
  int64_t kernel, stride, padding, dilation;
  int64_t common;   // greatest divisor of stride and dilation
  int64_t step;     // stride / common
  int64_t inverse;  // of dilation / common modulo step
  int64_t slots;    // the most outputs that one input feeds
};

struct AxisMaps {
  AxisMap axis[kMaxAxes];
  bool transposed;
};

// x with a * x = 1 modulo m, for a and m without a common divisor; 0 for m = 1.
inline int64_t InverseModulo(int64_t a, int64_t m) {
  int64_t rest = m, next_rest = a % m;
  int64_t x = 0, next_x = 1 % m;
  while (next_rest != 0) {
    const int64_t times = rest / next_rest;
    rest -= times * next_rest;
    std::swap(rest, next_rest);
    x -= times * next_x;
    std::swap(x, next_x);
  }
  return (x % m + m) % m;
}

// The geometry has been through Check.
inline AxisMaps MakeAxisMaps(const ConvGeometry& geometry) {
  AxisMaps maps{};
  maps.transposed = geometry.transposed;
  for (int a = 0; a < geometry.axes(); ++a) {
    AxisMap& axis = maps.axis[a];
    axis.kernel = geometry.kernel_size[a];
    axis.stride = geometry.stride[a];
    axis.padding = geometry.padding[a];
    axis.dilation = geometry.dilation[a];
    axis.common = geometry.transposed ? 1 : std::gcd(axis.stride, axis.dilation);
    axis.step = geometry.transposed ? 1 : axis.stride / axis.common;
    axis.inverse = InverseModulo(axis.dilation / axis.common, axis.step);
    axis.slots = CeilDiv(axis.kernel, axis.step);
  }
  return maps;
}

// The most outputs that one input site feeds.
inline int64_t Slots(const AxisMaps& maps, int axes) {
  int64_t slots = 1;
  for (int a = 0; a < axes; ++a) slots *= maps.axis[a].slots;
  return slots;
}

// The output that input `i` of the grid feeds in one of the axis' slots, or -1. It may lie beyond
// the output grid.
__device__ inline int64_t OutputOf(const AxisMap& axis, bool transposed, int64_t i, int64_t slot) {
  if (transposed) return i * axis.stride - axis.padding + slot * axis.dilation;
  // i < 2^31 and padding <= 2^30, and 32-bit division is much the faster.
  const auto padded = static_cast<uint32_t>(i + axis.padding);
  const auto common = static_cast<uint32_t>(axis.common);
  if (padded % common != 0) return -1;
  int64_t k = padded / common % static_cast<uint32_t>(axis.step);
  if (axis.inverse != 1) k = k * axis.inverse % axis.step;
  k += slot * axis.step;
  const int64_t scaled = padded - k * axis.dilation;
  if (k >= axis.kernel || scaled < 0) return -1;
  return static_cast<uint32_t>(scaled) / static_cast<uint32_t>(axis.stride);
}

// The input that feeds output `o` through kernel index k, or -1. It may lie beyond the input grid.
__device__ inline int64_t InputOf(const AxisMap& axis, bool transposed, int64_t o, int64_t k) {
  if (!transposed) return o * axis.stride - axis.padding + k * axis.dilation;
  const int64_t scaled = o + axis.padding - k * axis.dilation;
  // Below 2^32 for the same reason.
  if (scaled < 0 || static_cast<uint32_t>(scaled) % static_cast<uint32_t>(axis.stride) != 0) {
    return -1;
  }
  return static_cast<uint32_t>(scaled) / static_cast<uint32_t>(axis.stride);
}

}  // namespace rulebook::cuda
