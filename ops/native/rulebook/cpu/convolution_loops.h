// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// The convolution's inner loops, over a vector type `Vec` that the including file defines for its
// instruction set. Everything is in an unnamed namespace on purpose: see convolution_kernels.h.
//
// Every element of `sums` is one chain of multiply-adds over its own pairs, offsets and channels
// ascending, whatever the number of rows that are handled together: a row's bits do not depend on
// its neighbours in the tile.
#pragma once

#include "convolution_kernels.h"

namespace rulebook::cpu {
namespace {

// kRows pairs times kVecs vectors of columns, held in registers over all input channels.
template <typename Vec, int kRows, int kVecs>
inline __attribute__((always_inline)) void AccumulateBlock(
    const float* features, int64_t feature_stride, int64_t in_channels, const int32_t* in_row,
    const int32_t* out_row, const float* weight, float* sums, int64_t sum_stride) {
  constexpr int kLanes = Vec::kLanes;
  const float* x[kRows];
  float* y[kRows];
  typename Vec::Type sum[kRows][kVecs];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
    x[r] = features + in_row[r] * feature_stride;
    y[r] = sums + out_row[r] * sum_stride;
#pragma GCC unroll 16
    for (int v = 0; v < kVecs; ++v) sum[r][v] = Vec::Load(y[r] + v * kLanes);
  }
#pragma GCC unroll 4
  for (int64_t c = 0; c < in_channels; ++c) {
    typename Vec::Type w[kVecs];
#pragma GCC unroll 16
    for (int v = 0; v < kVecs; ++v) w[v] = Vec::Load(weight + (c * kVecs + v) * kLanes);
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      const typename Vec::Type broadcast = Vec::Broadcast(x[r][c]);
#pragma GCC unroll 16
      for (int v = 0; v < kVecs; ++v) sum[r][v] = Vec::MultiplyAdd(broadcast, w[v], sum[r][v]);
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 16
    for (int v = 0; v < kVecs; ++v) Vec::Store(y[r] + v * kLanes, sum[r][v]);
  }
}

// The pairs left over after full blocks: 1 to kRows of them.
template <typename Vec, int kRows, int kVecs>
void AccumulateRest(int64_t rest, const float* features, int64_t feature_stride,
                    int64_t in_channels, const int32_t* in_row, const int32_t* out_row,
                    const float* weight, float* sums, int64_t sum_stride) {
  if constexpr (kRows > 0) {
    if (rest == kRows) {
      AccumulateBlock<Vec, kRows, kVecs>(features, feature_stride, in_channels, in_row, out_row,
                                         weight, sums, sum_stride);
    } else {
      AccumulateRest<Vec, kRows - 1, kVecs>(rest, features, feature_stride, in_channels, in_row,
                                            out_row, weight, sums, sum_stride);
    }
  }
}

template <typename Vec, int kRows, int kVecs>
void AccumulatePanel(const float* features, int64_t feature_stride, int64_t in_channels,
                     const TilePairs& pairs, const float* weight, float* sums, int64_t sum_stride) {
  int64_t p = 0;
  for (; p + kRows <= pairs.count; p += kRows) {
    AccumulateBlock<Vec, kRows, kVecs>(features, feature_stride, in_channels, pairs.in_row + p,
                                       pairs.out_row + p, weight, sums, sum_stride);
  }
  AccumulateRest<Vec, kRows - 1, kVecs>(pairs.count - p, features, feature_stride, in_channels,
                                        pairs.in_row + p, pairs.out_row + p, weight, sums,
                                        sum_stride);
}

template <typename Vec>
void AccumulateDepthwise(const float* features, int64_t channels, const TilePairs& pairs,
                         const float* weight, float* sums, int64_t sum_stride) {
  const int64_t whole = channels / Vec::kLanes * Vec::kLanes;
  for (int64_t p = 0; p < pairs.count; ++p) {
    const float* x = features + pairs.in_row[p] * channels;
    float* y = sums + pairs.out_row[p] * sum_stride;
    int64_t c = 0;
    for (; c < whole; c += Vec::kLanes) {
      Vec::Store(y + c,
                 Vec::MultiplyAdd(Vec::Load(x + c), Vec::Load(weight + c), Vec::Load(y + c)));
    }
    for (; c < channels; ++c) y[c] += x[c] * weight[c];
  }
}

template <typename Vec>
void FillRows(const float* row, int64_t rows, int64_t width, float* sums) {
  for (int64_t r = 0; r < rows; ++r, sums += width) {
    int64_t c = 0;
    for (; c + Vec::kLanes <= width; c += Vec::kLanes) Vec::Store(sums + c, Vec::Load(row + c));
    for (; c < width; ++c) sums[c] = row[c];
  }
}

template <typename Vec>
void Relu(float* values, int64_t count) {
  int64_t j = 0;
  for (; j + Vec::kLanes <= count; j += Vec::kLanes) {
    Vec::Store(values + j, Vec::Relu(Vec::Load(values + j)));
  }
  for (; j < count; ++j) values[j] = values[j] < 0.0F ? 0.0F : values[j];
}

constexpr int64_t kCellsPerLine = 16;  // of neighbors, 64 bytes

// One cell at a time, without a branch on whether it holds a pair. Stores one past the last pair.
inline bool FindPairsScalar(const int32_t* neighbors, int64_t rows, int32_t inputs,
                            const int32_t* next, TilePairs& pairs) {
  int64_t count = 0;
  bool in_range = true;
  for (int64_t row = 0; row < rows; ++row) {
    const int32_t i = neighbors[row];
    pairs.in_row[count] = i;
    pairs.out_row[count] = static_cast<int32_t>(row);
    count += i >= 0;
    in_range &= (i >= -1) & (i < inputs);
    if (row % kCellsPerLine == 0) __builtin_prefetch(next + row);
  }
  pairs.count = count;
  return in_range;
}

}  // namespace
}  // namespace rulebook::cpu
