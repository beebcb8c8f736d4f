// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// SparseConv of 16-bit floats by tiles, on tensor cores, summed up in float32.
#include "convolution_problem.h"

namespace rulebook::cuda {
namespace {

namespace wmma = nvcuda::wmma;

constexpr int kMatrix = 16;             // rows, columns and depth of one product
constexpr int kWide = 8;                // elements that are read at once
constexpr int kDepth = 32;              // input channels of a stage
constexpr int kPitch = kDepth + kWide;  // so that rows begin in different banks
constexpr int kSumPitch = kMatrix + 4;

// The part of a tile that one warp makes.
template <int kRows, int kColumns>
struct WarpPart {
  static constexpr int kRowParts = 4 > kRows / kMatrix ? 2 : 4;
  static constexpr int kColumnParts = kRows * kColumns >= 128 * 64 || kRows == 32 ? 2 : 1;
  static constexpr int kThreads = kRowParts * kColumnParts * kWarpSize;
  static constexpr int kDown = kRows / kRowParts / kMatrix;  // products
  static constexpr int kAcross = kColumns / kColumnParts / kMatrix;
  static_assert(kDown * kRowParts * kMatrix == kRows &&
                kAcross * kColumnParts * kMatrix == kColumns);
};

template <typename T>
struct alignas(16) Wide {
  T element[kWide];
};

// Element by element, for rows that are not aligned; padding and missing rows are 0.
template <typename T>
__device__ void CopyNarrow(const ConvProblem<T>& problem, const T* from, int32_t channel,
                           bool present, T* to) {
#pragma unroll
  for (int i = 0; i < kWide; ++i) {
    const bool inside = present && channel + i < problem.group_inputs;
    to[i] = inside ? from[channel + i] : FromFloat<T>(0.0F);
  }
}

template <typename T>
__device__ void Write(const ConvProblem<T>& problem, int64_t row, int32_t group, int32_t column,
                      const float* sums) {
  if (row >= problem.outputs || column >= problem.group_outputs) return;
  const int64_t channel = static_cast<int64_t>(group) * problem.group_outputs + column;
  const int64_t at = row * problem.groups * problem.group_outputs + channel;
  Wide<T> values;
#pragma unroll
  for (int i = 0; i < kWide; ++i) {
    if (column + i >= problem.group_outputs) continue;
    const float value = Finished(problem, at + i, channel + i, sums[i]);
    values.element[i] = FromFloat<T>(value);
    if (!problem.wide_outputs) problem.out[at + i] = values.element[i];
  }
  if (problem.wide_outputs) *reinterpret_cast<Wide<T>*>(problem.out + at) = values;
}

// While one stage's products are added up, the next stage is on its way to shared memory. A row
// without a pair is a row of zeros: its sums stay what they are as long as all weights are finite.
template <typename T, int kRows, int kColumns>
__global__ void __launch_bounds__(WarpPart<kRows, kColumns>::kThreads)
    ConvolveHalf(ConvProblem<T> problem) {
  using Part = WarpPart<kRows, kColumns>;
  constexpr int kThreads = Part::kThreads;
  constexpr int kWeightPitch = kColumns + kWide;
  constexpr int kWides = kDepth / kWide;
  constexpr int kPasses = kRows * kWides / kThreads;  // of the threads over a stage's features
  static_assert(kPasses * kThreads == kRows * kWides);
  VOXGATE_SHARED(T, features, [2][kRows][kPitch]);
  VOXGATE_SHARED(T, weights, [2][kDepth][kWeightPitch]);
  VOXGATE_SHARED(float, finished, [kThreads / kWarpSize][kMatrix][kSumPitch]);
  VOXGATE_SHARED(bool, has_pairs, [kMaxKernelVolume]);

  const auto thread = static_cast<int>(threadIdx.x);
  const TilePlace place = PlaceOfBlock<kRows, kColumns>(problem);
  FindOffsets<kRows, kThreads>(problem, place.row, has_pairs);

  int32_t rows[kPasses];  // input rows for the features that this thread copies
  const auto find_rows = [&](int32_t offset) {
    if (offset >= problem.volume) return;
#pragma unroll
    for (int pass = 0; pass < kPasses; ++pass) {
      rows[pass] =
          InputRow(problem, offset, place.row + thread / kWides + pass * (kThreads / kWides));
    }
  };
  const auto copy_features = [&](const Stage& stage, int buffer) {
    const int wide = thread % kWides;
    const int32_t channel = stage.channel + wide * kWide;
    if (channel >= problem.depth) return;
#pragma unroll
    for (int pass = 0; pass < kPasses; ++pass) {
      const bool present = rows[pass] >= 0;
      const int64_t input = present ? rows[pass] : 0;
      const T* from =
          problem.features + (input * problem.groups + place.group) * problem.group_inputs;
      T* to = &features[buffer][thread / kWides + pass * (kThreads / kWides)][wide * kWide];
      if (!problem.wide_inputs) {
        CopyNarrow(problem, from, channel, present, to);
        continue;
      }
      const bool inside = present && channel < problem.group_inputs;
      __pipeline_memcpy_async(to, inside ? from + channel : from, sizeof(Wide<T>),
                              inside ? 0 : sizeof(Wide<T>));
    }
  };
  const auto copy_weights = [&](const Stage& stage, int buffer) {
    constexpr int kWidesOfRow = kColumns / kWide;
    for (int i = thread; i < kDepth * kWidesOfRow; i += kThreads) {
      const int row = i / kWidesOfRow;
      const int32_t column = place.column + i % kWidesOfRow * kWide;
      if (stage.channel + row >= problem.depth) continue;
      const bool inside = column < problem.columns;
      const int64_t from =
          ((static_cast<int64_t>(stage.offset) * problem.groups + place.group) * problem.depth +
           stage.channel + row) *
              problem.columns +
          (inside ? column : 0);
      __pipeline_memcpy_async(&weights[buffer][row][i % kWidesOfRow * kWide], problem.weight + from,
                              sizeof(Wide<T>), inside ? 0 : sizeof(Wide<T>));
    }
  };
  const auto copy = [&](const Stage& stage, int buffer) {
    if (stage.offset >= problem.volume) return;
    copy_features(stage, buffer);
    copy_weights(stage, buffer);
  };

  const int warp = thread / kWarpSize;
  const int first_row = warp / Part::kColumnParts * Part::kDown * kMatrix;
  const int first_column = warp % Part::kColumnParts * Part::kAcross * kMatrix;
  wmma::fragment<wmma::accumulator, kMatrix, kMatrix, kMatrix, float> sums[Part::kDown]
                                                                          [Part::kAcross];
#pragma unroll
  for (int i = 0; i < Part::kDown; ++i) {
#pragma unroll
    for (int j = 0; j < Part::kAcross; ++j) wmma::fill_fragment(sums[i][j], 0.0F);
  }
  Stage now{NextOffset(has_pairs, problem.volume, 0), 0};
  find_rows(now.offset);
  copy(now, 0);
  Stage next = NextStage<kDepth>(problem, has_pairs, now);
  if (next.offset != now.offset) find_rows(next.offset);
  for (int buffer = 0; now.offset < problem.volume; buffer ^= 1) {
    __pipeline_commit();
    __pipeline_wait_prior(0);
    __syncthreads();  // the stage is here, and the other buffer has been read
    copy(next, buffer ^ 1);
    const Stage later = NextStage<kDepth>(problem, has_pairs, next);
    if (later.offset != next.offset) find_rows(later.offset);

    const int32_t depth = problem.depth - now.channel;
    for (int d = 0; d < kDepth && d < depth; d += kMatrix) {
      wmma::fragment<wmma::matrix_b, kMatrix, kMatrix, kMatrix, T, wmma::row_major>
          w[Part::kAcross];
#pragma unroll
      for (int j = 0; j < Part::kAcross; ++j) {
        wmma::load_matrix_sync(w[j], &weights[buffer][d][first_column + j * kMatrix], kWeightPitch);
      }
#pragma unroll
      for (int i = 0; i < Part::kDown; ++i) {
        wmma::fragment<wmma::matrix_a, kMatrix, kMatrix, kMatrix, T, wmma::row_major> x;
        wmma::load_matrix_sync(x, &features[buffer][first_row + i * kMatrix][d], kPitch);
#pragma unroll
        for (int j = 0; j < Part::kAcross; ++j) wmma::mma_sync(sums[i][j], x, w[j], sums[i][j]);
      }
    }
    now = next;
    next = later;
  }

  const int lane = thread % kWarpSize;
  const int my_row = lane % kMatrix;
  const int my_column = lane / kMatrix * kWide;
#pragma unroll
  for (int i = 0; i < Part::kDown; ++i) {
#pragma unroll
    for (int j = 0; j < Part::kAcross; ++j) {
      wmma::store_matrix_sync(&finished[warp][0][0], sums[i][j], kSumPitch, wmma::mem_row_major);
      __syncwarp();
      Write(problem, place.row + first_row + i * kMatrix + my_row, place.group,
            place.column + first_column + j * kMatrix + my_column,
            &finished[warp][my_row][my_column]);
      __syncwarp();
    }
  }
}

template <typename T, int kRows, int kColumns>
constexpr TileChoice<T> Choice(int32_t columns, int64_t outputs) {
  return {columns,
          outputs,
          kRows,
          kColumns,
          WarpPart<kRows, kColumns>::kThreads,
          &ConvolveHalf<T, kRows, kColumns>};
}

template <typename T>
void Convolve(CudaContext& context, const ConvProblem<T>& problem) {
  // Not measured yet: enough blocks for every multiprocessor first, large tiles second.
  static const TileChoice<T> kChoices[] = {
      Choice<T, 64, 16>(16, kAnyOutputs),    Choice<T, 32, 32>(32, 8192),
      Choice<T, 64, 32>(32, kAnyOutputs),    Choice<T, 32, 32>(kAnyColumns, 4096),
      Choice<T, 64, 64>(kAnyColumns, 32768), Choice<T, 128, 64>(kAnyColumns, kAnyOutputs),
  };
  LaunchFirstThatFits(context, problem, kChoices);
}

}  // namespace

void ConvolveByTiles(CudaContext& context, const ConvProblem<__half>& problem) {
  Convolve(context, problem);
}
void ConvolveByTiles(CudaContext& context, const ConvProblem<__nv_bfloat16>& problem) {
  Convolve(context, problem);
}

}  // namespace rulebook::cuda
