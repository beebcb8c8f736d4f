// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// One SparseConv as its kernels see it, and what they share: a block makes a tile of output rows
// and of one group's output channels, and visits only the kernel offsets in which its rows have a
// pair.
#pragma once

#include "device.h"
#include "element.h"
#include "rulebook/convolution.h"
#include "rulebook/shape.h"

namespace rulebook::cuda {

template <typename T>
struct ConvProblem {
  const T* features;
  const int32_t* neighbors;
  const T* weight;  // [volume, groups, depth, columns]; as it came for ConvolveDirectly
  const T* bias;
  const T* residual;
  T* out;
  int64_t outputs;
  int32_t inputs;
  int32_t volume;
  int32_t groups;
  int32_t group_inputs;
  int32_t group_outputs;
  int32_t depth;      // group_inputs, padded
  int32_t columns;    // group_outputs, padded
  bool wide_inputs;   // a group's channels of a row may be read 16 bytes at a time
  bool wide_outputs;  // the same for outputs and residual
  ActivationKind activation;
  float alpha;
};

// By tiles: convolution_float.cu, convolution_half.cu.
void ConvolveByTiles(CudaContext& context, const ConvProblem<float>& problem);
void ConvolveByTiles(CudaContext& context, const ConvProblem<__half>& problem);
void ConvolveByTiles(CudaContext& context, const ConvProblem<__nv_bfloat16>& problem);

// What the padded sizes of packed weights are multiples of.
template <typename T>
constexpr int32_t kDepthMultiple = 16;
template <>
inline constexpr int32_t kDepthMultiple<float> = 4;
template <typename T>
constexpr int32_t kColumnMultiple = 16 / static_cast<int32_t>(sizeof(T));

// The kernel for problems of up to so many columns and outputs; of a list of these the first that
// fits is taken, and the last fits all.
template <typename T>
struct TileChoice {
  int32_t columns;
  int64_t outputs;
  int rows_of_tile;
  int columns_of_tile;
  int threads;
  void (*kernel)(ConvProblem<T>);
};

constexpr int32_t kAnyColumns = INT32_MAX;
constexpr int64_t kAnyOutputs = INT64_MAX;

template <typename T, size_t kChoices>
void LaunchFirstThatFits(CudaContext& context, const ConvProblem<T>& problem,
                         const TileChoice<T> (&choices)[kChoices]) {
  size_t i = 0;
  while (problem.columns > choices[i].columns || problem.outputs > choices[i].outputs) ++i;
  const TileChoice<T>& choice = choices[i];
  LaunchShape shape;
  shape.blocks_x = CeilDiv<int64_t>(problem.outputs, choice.rows_of_tile) * problem.groups *
                   CeilDiv(problem.columns, choice.columns_of_tile);
  shape.threads = choice.threads;
  Launch(context, shape, choice.kernel, problem);
}

// Which tile a block makes. Blocks that read the same features are neighbours.
struct TilePlace {
  int64_t row;  // the first
  int32_t group;
  int32_t column;  // the first, within the group
};

template <int kRows, int kColumns, typename T>
__device__ TilePlace PlaceOfBlock(const ConvProblem<T>& problem) {
  const int64_t tiles = (problem.columns + kColumns - 1) / kColumns;
  const int64_t block = blockIdx.x;
  TilePlace place;
  place.column = static_cast<int32_t>(block % tiles) * kColumns;
  place.group = static_cast<int32_t>(block / tiles % problem.groups);
  place.row = block / tiles / problem.groups * kRows;
  return place;
}

// The input row of a pair, or -1: also for a value that is no row.
template <typename T>
__device__ int32_t InputRow(const ConvProblem<T>& problem, int32_t offset, int64_t row) {
  if (row >= problem.outputs) return -1;
  const int32_t input = problem.neighbors[offset * problem.outputs + row];
  return input >= 0 && input < problem.inputs ? input : -1;
}

// has_pairs[k] tells whether a row of the tile has a pair through offset k. Ends with a barrier.
template <int kRows, int kThreads, typename T>
__device__ void FindOffsets(const ConvProblem<T>& problem, int64_t row, bool* has_pairs) {
  const auto lane = static_cast<int>(threadIdx.x) % kWarpSize;
  for (auto k = static_cast<int32_t>(threadIdx.x) / kWarpSize; k < problem.volume;
       k += kThreads / kWarpSize) {
    bool found = false;
    for (int r = lane; r < kRows; r += kWarpSize) {
      found = InputRow(problem, k, row + r) >= 0 || found;
    }
    const bool any = __any_sync(0xFFFFFFFFU, found ? 1 : 0) != 0;
    if (lane == 0) has_pairs[k] = any;
  }
  __syncthreads();
}

// What a block brings to shared memory at once: some input channels of one offset.
struct Stage {
  int32_t offset;  // the kernel volume after the last
  int32_t channel;
};

__device__ inline int32_t NextOffset(const bool* has_pairs, int32_t volume, int32_t offset) {
  while (offset < volume && !has_pairs[offset]) ++offset;
  return offset;
}

template <int kDepth, typename T>
__device__ Stage NextStage(const ConvProblem<T>& problem, const bool* has_pairs, Stage stage) {
  if (stage.offset >= problem.volume) return stage;
  stage.channel += kDepth;
  if (stage.channel < problem.depth) return stage;
  return {NextOffset(has_pairs, problem.volume, stage.offset + 1), 0};
}

__device__ inline float Activated(ActivationKind kind, float alpha, float x) {
  switch (kind) {
    case ActivationKind::kNone:
      return x;
    case ActivationKind::kRelu:
      return x < 0.0F ? 0.0F : x;  // NaN stays
    case ActivationKind::kLeakyRelu:
      return x < 0.0F ? alpha * x : x;
    case ActivationKind::kSigmoid:
      return 1.0F / (1.0F + expf(-x));
    case ActivationKind::kSilu:
      return x * (1.0F / (1.0F + expf(-x)));
    case ActivationKind::kGelu:
      return 0.5F * x * (1.0F + erff(x * 0.70710678F));
  }
  return x;
}

// The result for element `at` of the output, whose channel is `channel`.
template <typename T>
__device__ float Finished(const ConvProblem<T>& problem, int64_t at, int64_t channel, float sum) {
  float start = 0.0F;
  if (problem.bias != nullptr) start += ToFloat(problem.bias[channel]);
  if (problem.residual != nullptr) start += ToFloat(problem.residual[at]);
  return Activated(problem.activation, problem.alpha, start + sum);
}

}  // namespace rulebook::cuda
