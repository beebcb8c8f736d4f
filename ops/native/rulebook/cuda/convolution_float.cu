// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// SparseConv of float32 by tiles, without tensor cores.
#include "convolution_epilogue.h"

namespace rulebook::cuda {
namespace {

using Problem = ConvProblem<float>;

constexpr int kDepth = 16;  // input channels of a stage
constexpr int kWides = kDepth / kWide<float>;
constexpr int kPitch = kWides + 1;  // so that rows begin in different banks

constexpr int kRowStep = 16;  // between the rows of one thread

template <int kColumns>
constexpr int kThreadsOf = kRowStep * (kColumns / kWide<float>);

__device__ inline void AddProduct(float x, const float4& w, float* sums) {
  sums[0] = fmaf(x, w.x, sums[0]);
  sums[1] = fmaf(x, w.y, sums[1]);
  sums[2] = fmaf(x, w.z, sums[2]);
  sums[3] = fmaf(x, w.w, sums[3]);
}

// What a block brings to shared memory at once: some input channels of one offset.
struct Stage {
  int32_t offset;  // the kernel volume after the last
  int32_t channel;
};

__device__ inline Stage NextStage(const Problem& problem, OffsetCursor& offsets, Stage stage) {
  stage.channel += kDepth;
  if (stage.channel < problem.depth) return stage;
  return {offsets.Next(), 0};
}

// Each thread has the sums of some rows, kRowStep apart, and of 4 columns beside each other. While
// it adds one stage's products up, the next stage is on its way to shared memory.
template <int kRows, int kColumns>
__global__ void __launch_bounds__(kThreadsOf<kColumns>) ConvolveFloat(Problem problem) {
  constexpr int kThreads = kThreadsOf<kColumns>;
  constexpr int kRowsEach = kRows / kRowStep;
  constexpr int kPasses = kRows * kWides / kThreads;  // of the threads over a stage's features
  static_assert(kThreads % kWarpSize == 0 && kPasses * kThreads == kRows * kWides &&
                kThreads == kDepth * kColumns / kWide<float>);
  VOXGATE_SHARED(float4, features, [2][kRows][kPitch]);
  VOXGATE_SHARED(float4, weights, [2][kDepth][kColumns / kWide<float>]);
  VOXGATE_SHARED(bool, present, [2][kRows]);
  VOXGATE_SHARED(uint32_t, has_pairs, [kOffsetWords]);

  const auto thread = static_cast<int>(threadIdx.x);
  const TilePlace place = PlaceOfBlock<kRows, kColumns>(problem);
  FindOffsets<kRows, kThreads>(problem, place.row, has_pairs);

  const int32_t pitch = problem.groups * problem.group_inputs;
  const float* group_features = problem.features + place.group * problem.group_inputs;
  int32_t rows[kPasses];  // input rows for the features that this thread copies
  const auto find_rows = [&](int32_t offset) {
    if (offset >= problem.volume) return;
#pragma unroll
    for (int pass = 0; pass < kPasses; ++pass) {
      rows[pass] =
          InputRow(problem, offset, place.row + thread / kWides + pass * (kThreads / kWides));
    }
  };
  // Of a row without a pair nothing is copied, and its sums of the stage are not taken.
  const auto copy_features = [&](const Stage& stage, int buffer) {
    const int wide = thread % kWides;
    const int32_t channel = stage.channel + wide * kWide<float>;
#pragma unroll
    for (int pass = 0; pass < kPasses; ++pass) {
      const int row = thread / kWides + pass * (kThreads / kWides);
      if (wide == 0) present[buffer][row] = rows[pass] >= 0;
      if (rows[pass] < 0 || channel >= problem.depth) continue;
      const float* from = group_features + static_cast<int64_t>(rows[pass]) * pitch;
      float4* to = &features[buffer][row][wide];
      if (problem.copied == sizeof(float4)) {
        __pipeline_memcpy_async(to, from + channel, sizeof(float4));
        continue;
      }
#pragma unroll
      for (int i = 0; i < kWide<float>; ++i) {
        const bool padding = channel + i >= problem.group_inputs;
        __pipeline_memcpy_async(reinterpret_cast<float*>(to) + i,
                                padding ? from : from + channel + i, sizeof(float),
                                padding ? sizeof(float) : 0);
      }
    }
  };
  const auto copy_weights = [&](const Stage& stage, int buffer) {
    constexpr int kWidesOfRow = kColumns / kWide<float>;
    const int row = thread / kWidesOfRow;
    const int32_t column = place.column + thread % kWidesOfRow * kWide<float>;
    if (stage.channel + row >= problem.depth) return;
    const bool padding = column >= problem.columns;
    const int64_t from =
        ((static_cast<int64_t>(stage.offset) * problem.groups + place.group) * problem.depth +
         stage.channel + row) *
            problem.columns +
        (padding ? 0 : column);
    __pipeline_memcpy_async(&weights[buffer][row][thread % kWidesOfRow], problem.weight + from,
                            sizeof(float4), padding ? sizeof(float4) : 0);
  };
  const auto copy = [&](const Stage& stage, int buffer) {
    if (stage.offset >= problem.volume) return;
    copy_features(stage, buffer);
    copy_weights(stage, buffer);
  };

  const int my_row = thread / (kColumns / kWide<float>);
  const int my_wide = thread % (kColumns / kWide<float>);
  float sums[kRowsEach][kWide<float>] = {};
  const int32_t stages =
      CountOffsets(has_pairs, problem.volume) * ((problem.depth + kDepth - 1) / kDepth);
  OffsetCursor offsets(has_pairs, problem.volume);
  Stage ahead{offsets.Next(), 0};
  find_rows(ahead.offset);
  int32_t channel = 0;  // the first of the stage that is added up
  int buffer = 0;       // that the next stage goes to
  for (int32_t done = -1; done < stages; ++done) {
    if (done >= 0) {
      __pipeline_wait_prior(0);
      __syncthreads();  // the stage is here, and the one before it has been read
    }
    copy(ahead, buffer);
    __pipeline_commit();
    const int32_t offset = ahead.offset;
    ahead = NextStage(problem, offsets, ahead);
    if (ahead.offset != offset) find_rows(ahead.offset);
    buffer ^= 1;
    if (done < 0) continue;

    float products[kRowsEach][kWide<float>] = {};
    const int32_t wides = (problem.depth - channel) / kWide<float>;
#pragma unroll 1
    for (int wide = 0; wide < kWides && wide < wides; ++wide) {
      const float4 w0 = weights[buffer][wide * kWide<float>][my_wide];
      const float4 w1 = weights[buffer][wide * kWide<float> + 1][my_wide];
      const float4 w2 = weights[buffer][wide * kWide<float> + 2][my_wide];
      const float4 w3 = weights[buffer][wide * kWide<float> + 3][my_wide];
#pragma unroll
      for (int r = 0; r < kRowsEach; ++r) {
        const float4 x = features[buffer][my_row + r * kRowStep][wide];
        AddProduct(x.x, w0, products[r]);
        AddProduct(x.y, w1, products[r]);
        AddProduct(x.z, w2, products[r]);
        AddProduct(x.w, w3, products[r]);
      }
    }
#pragma unroll
    for (int r = 0; r < kRowsEach; ++r) {
      if (!present[buffer][my_row + r * kRowStep]) continue;
#pragma unroll
      for (int i = 0; i < kWide<float>; ++i) sums[r][i] += products[r][i];
    }
    channel = channel + kDepth < problem.depth ? channel + kDepth : 0;
  }
#pragma unroll
  for (int r = 0; r < kRowsEach; ++r) {
    WriteOutputs<kWide<float>>(problem, place.row + my_row + r * kRowStep, place.group,
                               place.column + my_wide * kWide<float>, sums[r]);
  }
}

template <int kRows, int kColumns>
constexpr TileKernel<float> Kernel() {
  return {{kRows, kColumns}, kThreadsOf<kColumns>, &ConvolveFloat<kRows, kColumns>};
}

}  // namespace

void ConvolveFloat32(CudaContext& context, const ConvProblem<float>& problem, const Tile& tile) {
  static const TileKernel<float> kKernels[] = {Kernel<64, 16>(), Kernel<32, 32>(), Kernel<64, 32>(),
                                               Kernel<64, 64>(), Kernel<128, 64>()};
  LaunchTile(context, problem, tile, kKernels);
}

}  // namespace rulebook::cuda
