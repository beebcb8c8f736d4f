// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// One SparseConv as its kernels see it, and what they share: a block makes a tile of output rows
// and of one group's output channels, and visits only the kernel offsets in which its rows have a
// pair.
#pragma once

#include "convolution_tiles.h"
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
  int32_t copied;     // bytes of features that may be copied at once: 16, 8, 4 or an element's
  bool wide_outputs;  // a group's outputs, residual and bias may be accessed 16 bytes at a time
  ActivationKind activation;
  float alpha;
};

// convolution_float.cu: without tensor cores.
void ConvolveFloat32(CudaContext& context, const ConvProblem<float>& problem, const Tile& tile);

// convolution_tensor.cu: with them; float32 is rounded to tf32.
void ConvolveOnTensorCores(CudaContext& context, const ConvProblem<float>& problem,
                           const Tile& tile);
void ConvolveOnTensorCores(CudaContext& context, const ConvProblem<__half>& problem,
                           const Tile& tile);
void ConvolveOnTensorCores(CudaContext& context, const ConvProblem<__nv_bfloat16>& problem,
                           const Tile& tile);

// What the padded sizes of packed weights are multiples of.
template <typename T>
constexpr int32_t kDepthMultiple = 16;
template <>
inline constexpr int32_t kDepthMultiple<float> = 4;
template <typename T>
constexpr int32_t kColumnMultiple = 16 / static_cast<int32_t>(sizeof(T));

template <typename T>
struct TileKernel {
  Tile tile;
  int threads;
  void (*kernel)(ConvProblem<T>);
};

template <typename T, size_t kKernels>
void LaunchTile(CudaContext& context, const ConvProblem<T>& problem, const Tile& tile,
                const TileKernel<T> (&kernels)[kKernels]) {
  for (const TileKernel<T>& choice : kernels) {
    if (!(choice.tile == tile)) continue;
    LaunchShape shape;
    shape.blocks_x = CeilDiv<int64_t>(problem.outputs, tile.rows) * problem.groups *
                     CeilDiv(problem.columns, tile.columns);
    shape.threads = choice.threads;
    Launch(context, shape, choice.kernel, problem);
    return;
  }
  ThrowInvalid("tile: no kernel makes ", tile.rows, " x ", tile.columns,
               ", expected one of kTiles");
}

// Which tile a block makes. Blocks that read the same features are neighbours.
struct TilePlace {
  int64_t row;  // the first
  int32_t group;
  int32_t column;  // the first, within the group
};

template <int kRows, int kColumns, typename T>
__device__ TilePlace PlaceOfBlock(const ConvProblem<T>& problem) {
  const auto tiles = static_cast<uint32_t>(problem.columns + kColumns - 1) / kColumns;
  const auto groups = static_cast<uint32_t>(problem.groups);
  const uint32_t block = blockIdx.x;
  TilePlace place;
  place.column = static_cast<int32_t>(block % tiles) * kColumns;
  place.group = static_cast<int32_t>(block / tiles % groups);
  place.row = static_cast<int64_t>(block / tiles / groups) * kRows;
  return place;
}

// The input row of a pair, or -1: also for a value that is no row.
template <typename T>
__device__ int32_t InputRow(const ConvProblem<T>& problem, int32_t offset, int64_t row) {
  if (row >= problem.outputs) return -1;
  const int32_t input = problem.neighbors[offset * problem.outputs + row];
  return input >= 0 && input < problem.inputs ? input : -1;
}

// The kernel offsets in which a tile has a pair: a bit for each, 32 in a word.
constexpr int kOffsetWords = static_cast<int>(kMaxKernelVolume / 32);

// Ends with a barrier. A warp looks at 8 offsets at once, so that their loads are on their way
// together, and writes a byte.
template <int kRows, int kThreads, typename T>
__device__ void FindOffsets(const ConvProblem<T>& problem, int64_t row, uint32_t* has_pairs) {
  constexpr int kBatch = 8;
  const auto lane = static_cast<int>(threadIdx.x) % kWarpSize;
  auto* bytes = reinterpret_cast<unsigned char*>(has_pairs);
  const int32_t batches = (problem.volume + 31) / 32 * (32 / kBatch);
  for (int32_t batch = static_cast<int32_t>(threadIdx.x) / kWarpSize; batch < batches;
       batch += kThreads / kWarpSize) {
    unsigned found = 0;
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      const int32_t offset = batch * kBatch + i;
      if (offset >= problem.volume) continue;
#pragma unroll
      for (int r = 0; r < kRows; r += kWarpSize) {
        if (InputRow(problem, offset, row + r + lane) >= 0) found |= 1U << i;
      }
    }
    found = __reduce_or_sync(0xFFFFFFFFU, found);
    if (lane == 0) bytes[batch] = static_cast<unsigned char>(found);
  }
  __syncthreads();
}

// The first offset with a pair that is not below `offset`; the volume if there is none.
__device__ inline int32_t NextOffset(const uint32_t* has_pairs, int32_t volume, int32_t offset) {
  if (offset >= volume) return volume;
  int32_t word = offset / 32;
  uint32_t left = has_pairs[word] >> (offset % 32) << (offset % 32);
  while (left == 0) {
    if (++word * 32 >= volume) return volume;
    left = has_pairs[word];
  }
  return word * 32 + __ffs(static_cast<int>(left)) - 1;
}

__device__ inline int32_t CountOffsets(const uint32_t* has_pairs, int32_t volume) {
  int32_t count = 0;
  for (int32_t word = 0; word * 32 < volume; ++word) count += __popc(has_pairs[word]);
  return count;
}

}  // namespace rulebook::cuda
