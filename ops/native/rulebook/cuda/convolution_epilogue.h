// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// What SparseConv's kernels do with finished sums: bias, residual, activation, and out.
#pragma once

#include "convolution_problem.h"

namespace rulebook::cuda {

template <typename T>
constexpr int kWide = 16 / static_cast<int>(sizeof(T));  // elements accessed at once

template <typename T>
struct alignas(16) Wide {
  T element[kWide<T>];
};

template <int kCount>
__device__ inline void Activate(ActivationKind kind, float alpha, float (&x)[kCount]) {
  switch (kind) {
    case ActivationKind::kNone:
      return;
    case ActivationKind::kRelu:
#pragma unroll
      for (float& v : x) v = v < 0.0F ? 0.0F : v;  // NaN stays
      return;
    case ActivationKind::kLeakyRelu:
#pragma unroll
      for (float& v : x) v = v < 0.0F ? alpha * v : v;
      return;
    case ActivationKind::kSigmoid:
#pragma unroll
      for (float& v : x) v = 1.0F / (1.0F + expf(-v));
      return;
    case ActivationKind::kSilu:
#pragma unroll
      for (float& v : x) v *= 1.0F / (1.0F + expf(-v));
      return;
    case ActivationKind::kGelu:
#pragma unroll
      for (float& v : x) v = 0.5F * v * (1.0F + erff(v * 0.70710678F));
      return;
  }
}

// start += from[0, count), of which only the first `inside` exist.
template <int kCount, typename T>
__device__ inline void AddTerm(const T* from, int inside, bool wide, float (&start)[kCount]) {
  if constexpr (kCount % kWide<T> == 0) {
    if (wide) {
#pragma unroll
      for (int first = 0; first < kCount; first += kWide<T>) {
        if (first >= inside) continue;
        const Wide<T> values = *reinterpret_cast<const Wide<T>*>(from + first);
#pragma unroll
        for (int i = 0; i < kWide<T>; ++i) start[first + i] += ToFloat(values.element[i]);
      }
      return;
    }
  }
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    if (i < inside) start[i] += ToFloat(from[i]);
  }
}

// The results for kCount columns of a row, beside each other, from their sums. What lies outside
// the output is left out.
template <int kCount, typename T>
__device__ inline void WriteOutputs(const ConvProblem<T>& problem, int64_t row, int32_t group,
                                    int32_t column, const float* sums) {
  const int inside = problem.group_outputs - column;
  if (row >= problem.outputs || inside <= 0) return;
  const int64_t channel = static_cast<int64_t>(group) * problem.group_outputs + column;
  const int64_t at = row * problem.groups * problem.group_outputs + channel;
  float values[kCount] = {};
  if (problem.bias != nullptr) {
    AddTerm(problem.bias + channel, inside, problem.wide_outputs, values);
  }
  if (problem.residual != nullptr) {
    AddTerm(problem.residual + at, inside, problem.wide_outputs, values);
  }
#pragma unroll
  for (int i = 0; i < kCount; ++i) values[i] += sums[i];
  Activate(problem.activation, problem.alpha, values);
  T* out = problem.out + at;
  if constexpr (kCount % kWide<T> == 0) {
    if (problem.wide_outputs) {
#pragma unroll
      for (int first = 0; first < kCount; first += kWide<T>) {
        if (first >= inside) continue;
        Wide<T> packed;
#pragma unroll
        for (int i = 0; i < kWide<T>; ++i) packed.element[i] = FromFloat<T>(values[first + i]);
        *reinterpret_cast<Wide<T>*>(out + first) = packed;
      }
      return;
    }
  }
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    if (i < inside) out[i] = FromFloat<T>(values[i]);
  }
}

}  // namespace rulebook::cuda
