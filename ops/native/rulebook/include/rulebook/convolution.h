// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>

#include "rulebook/context.h"

namespace rulebook {

enum class ActivationKind { kNone, kRelu, kLeakyRelu, kSigmoid, kSilu, kGelu };

struct Activation {
  ActivationKind kind = ActivationKind::kNone;
  float alpha = 0.01F;  // kLeakyRelu's slope
};

struct WeightShape {
  int64_t kernel_volume = 0;
  int64_t in_channels = 0;   // of the whole layer: groups * Ci/g
  int64_t out_channels = 0;  // of the whole layer
  int64_t groups = 1;
};

// Weights [K, Ci/g, Co] laid out for the kernels of this machine. Immutable once packed, so any
// number of threads may convolve with one object.
template <Device D, typename T>
class PackedWeight;

template <Device D, typename T>
struct PackedWeightDeleter {
  void operator()(PackedWeight<D, T>* weight) const;
};

template <Device D, typename T>
using PackedWeightPtr = std::unique_ptr<PackedWeight<D, T>, PackedWeightDeleter<D, T>>;

// weight [K, Ci/g, Co] row-major. Throws when a size is below 1, the groups do not divide both
// channel counts, or the total is over kMaxDenseElements.
template <Device D, typename T>
PackedWeightPtr<D, T> PackWeight(Context<D>& context, const T* weight, const WeightShape& shape);

template <typename T>
struct ConvInputs {
  const T* features = nullptr;         // [inputs, Ci]
  int64_t inputs = 0;                  // N
  const int32_t* neighbors = nullptr;  // [K, outputs], values in [-1, inputs)
  int64_t outputs = 0;                 // M
  const T* bias = nullptr;             // [Co] or null
  const T* residual = nullptr;         // [outputs, Co] or null
  Activation activation;
};

// On a CPU whose instruction set is kAmx, layers of 32n to 32m channels multiply bfloat16 parts of
// float32, no less accurately than float32 (see cpu/split_convolution.h).
//
// out [M, Co] = act(bias + residual[o] + sum_k W[k]^T x[neighbors[k, o]]), k ascending, float32
// accumulation. A row's bits depend on its own pairs only, never on thread count or on the rows
// beside it. Throws when a neighbor is >= inputs or < -1.
template <Device D, typename T>
void SparseConv(Context<D>& context, const ConvInputs<T>& in, const PackedWeight<D, T>& weight,
                T* out);

}  // namespace rulebook
