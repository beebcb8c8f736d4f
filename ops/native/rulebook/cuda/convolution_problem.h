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
  int64_t outputs;  // fits an int32, as inputs do; products with it do not
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
  int32_t row;  // the first; there are at most kMaxSites
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
  place.row = static_cast<int32_t>(block / tiles / groups) * kRows;
  return place;
}

// What neighbors have for a pair, if that is a row; else -1.
template <typename T>
__device__ int32_t RowOrNone(const ConvProblem<T>& problem, int32_t input) {
  return input >= 0 && input < problem.inputs ? input : -1;
}

// The input row of a pair, or -1.
template <typename T>
__device__ int32_t InputRow(const ConvProblem<T>& problem, int32_t offset, int64_t row) {
  if (row >= problem.outputs) return -1;
  return RowOrNone(problem, problem.neighbors[offset * problem.outputs + row]);
}

// The kernel offsets in which a tile has a pair: a bit for each, 32 in a word.
constexpr int kOffsetWords = static_cast<int>(kMaxKernelVolume / 32);

// A bit for each of kBatch offsets in which one of kRows rows may have a pair: those that this lane
// looks at. All loads are on their way before the first value is looked at; what lies outside the
// table is read from its edge.
template <int kBatch, int kRows, typename T>
__device__ unsigned PairsOfLane(const ConvProblem<T>& problem, int32_t first_offset,
                                int32_t first_row) {
  constexpr int kPasses = kRows / kWarpSize;
  const auto lane = static_cast<int>(threadIdx.x) % kWarpSize;
  int32_t inputs[kBatch][kPasses];
#pragma unroll
  for (int i = 0; i < kBatch; ++i) {
    const int64_t offset =
        first_offset + i < problem.volume ? first_offset + i : problem.volume - 1;
#pragma unroll
    for (int pass = 0; pass < kPasses; ++pass) {
      const int32_t row = first_row + pass * kWarpSize + lane;
      inputs[i][pass] = problem.neighbors[offset * problem.outputs +
                                          (row < problem.outputs ? row : problem.outputs - 1)];
    }
  }
  unsigned found = 0;
#pragma unroll
  for (int i = 0; i < kBatch; ++i) {
#pragma unroll
    for (int pass = 0; pass < kPasses; ++pass) {
      if (RowOrNone(problem, inputs[i][pass]) >= 0) found |= 1U << i;
    }
    if (first_offset + i >= problem.volume) found &= (1U << i) - 1;
  }
  return found;
}

// Which offsets have a pair. Ends with a barrier. A warp looks at 8 offsets and 64 rows at once,
// and writes a byte.
template <int kRows, int kThreads, typename T>
__device__ void FindOffsets(const ConvProblem<T>& problem, int32_t row, uint32_t* has_pairs) {
  constexpr int kBatch = 8;
  constexpr int kRowsAtOnce = kRows < 64 ? kRows : 64;
  auto* bytes = reinterpret_cast<unsigned char*>(has_pairs);
  const int32_t batches = (problem.volume + 31) / 32 * (32 / kBatch);
  for (int32_t batch = static_cast<int32_t>(threadIdx.x) / kWarpSize; batch < batches;
       batch += kThreads / kWarpSize) {
    unsigned found = 0;
#pragma unroll 1
    for (int first = 0; first < kRows; first += kRowsAtOnce) {
      found |= PairsOfLane<kBatch, kRowsAtOnce>(problem, batch * kBatch, row + first);
    }
    found = __reduce_or_sync(0xFFFFFFFFU, found);
    if (threadIdx.x % kWarpSize == 0) bytes[batch] = static_cast<unsigned char>(found);
  }
  __syncthreads();
}

__device__ inline int32_t CountOffsets(const uint32_t* has_pairs, int32_t volume) {
  int32_t count = 0;
  for (int32_t word = 0; word * 32 < volume; ++word) count += __popc(has_pairs[word]);
  return count;
}

// Goes through the offsets that have pairs.
class OffsetCursor {
 public:
  __device__ OffsetCursor(const uint32_t* has_pairs, int32_t volume)
      : has_pairs_(has_pairs), volume_(volume), left_(has_pairs[0]) {}

  // The next; the volume after the last.
  __device__ int32_t Next() {
    while (left_ == 0) {
      if ((word_ + 1) * 32 >= volume_) return volume_;
      left_ = has_pairs_[++word_];
    }
    const int32_t offset = word_ * 32 + __ffs(static_cast<int>(left_)) - 1;
    left_ &= left_ - 1;
    return offset;
  }

 private:
  const uint32_t* has_pairs_;
  int32_t volume_;
  int32_t word_ = 0;
  uint32_t left_;  // of the word
};

}  // namespace rulebook::cuda
