// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// What a convolution needs from a unit that multiplies bfloat16 matrices, to multiply float32 ones:
// every number is split into three bfloat16 parts, x = h + m + l, which together hold all its 24
// bits, and of the nine products of two such sums the six of order 2^-16 and above are kept,
//
//   x w  ~  h wh + m wh + m wm + h wm + h wl + l wh
//
// (G. Henry, P. Tang, A. Heinecke: Leveraging the bfloat16 Artificial Intelligence Datatype For
// Higher-Precision Computations, ARITH 2019). With w rounded and x cut off, what is left out is
// 2^-22.6 |x w| at most and 2^-25.8 |x w| in root mean square, less than one float32 rounding's
// 2^-25.2 (over random significands).
#pragma once

#include <cstdint>

#include "convolution_kernels.h"

namespace rulebook::cpu {

// Channels come in whole groups of 32, in and out: a tile's row of bfloat16.
inline constexpr int64_t kSplitChannels = 32;
inline constexpr int64_t kSplitParts = 3;
// Lists of pairs have room for so many more than there are: they are filled up to whole blocks of
// 32, and the rows that follow are fetched ahead.
inline constexpr int64_t kSplitPairSlack = 44;

// Parts hold no infinity and no NaN, and parts and products below 2^-126 are taken as 0. So a
// weight is split only where every value is 0 or between the first two of these. Sums that are
// finite, and 0 or no smaller than the third, are then as good as said above, and any other row is
// done again in float32. What remains is that a sum whose every product is below 2^-126 may come
// out as 0.
inline constexpr float kSplitLeastWeight = 0x1p-100F;
inline constexpr float kSplitMostWeight = 0x1p20F;
inline constexpr float kSplitLeastSum = 0x1p-60F;

// Parts of so many values, and the memory that one tile works in for so many channels.
constexpr int64_t SplitPartsOf(int64_t values) { return values * kSplitParts; }
constexpr int64_t SplitWorkspaceBytes(int64_t in_channels) {
  constexpr int64_t kSums = 32 * kSplitChannels * static_cast<int64_t>(sizeof(float));
  constexpr int64_t kPartBytes = 2;
  return 2 * (kSums + 32 * SplitPartsOf(in_channels) * kPartBytes);
}

// The pairs of one kernel offset within one tile, one at least, and its packed weight.
struct SplitOffset {
  TilePairs pairs;
  const uint16_t* weight = nullptr;
};

// One tile on its way through its kernel offsets.
struct SplitRun {
  const float* features;
  int64_t in_channels, out_channels;
  float* sums;      // [rows, out_channels]
  char* workspace;  // [SplitWorkspaceBytes(in_channels)], on cache lines
  // Memory that will be written next: it is fetched into the caches meanwhile.
  const char* fetch;
  const char* fetch_end;

  // The kernel's own: where the rows of the block to come are, and the sums still to be added.
  int gathered_half = -1;
  int sums_half = 0;
  int64_t late_rows = 0;
  int64_t late_column = 0;
  int32_t late_out_row[32] = {};
};

struct SplitKernels {
  // packed [out_channels / 32][in_channels / 32][3][2][16][16][2] of one kernel offset's weight
  // [in_channels, out_channels]: two tiles of 16 columns, each of 16 rows that hold the channels j
  // and j + 16 of every column. False when the weight is not for splitting.
  bool (*pack)(const float* weight, int64_t in_channels, int64_t out_channels, uint16_t* packed);

  // Readies this thread for `accumulate`, and lets go of what that took.
  void (*begin)();
  void (*end)();

  // run.sums[out_row] += features[in_row] * offset.weight, for one offset after the other: `next`
  // is what the following call does, or null, and after the last one the sums are complete.
  void (*accumulate)(SplitRun& run, const SplitOffset& offset, const SplitOffset* next);

  // Whether sums [count] are all finite, and 0 or no smaller than kSplitLeastSum.
  bool (*all_sound)(const float* sums, int64_t count);
};

// Null where the compiler or the processor family knows no such unit.
const SplitKernels* AmxSplitKernels();

}  // namespace rulebook::cpu
