// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// What a convolution needs from a unit that multiplies bfloat16 matrices, to multiply float32 ones:
// every number is split into three bfloat16 parts, x = h + m + l, which together hold all its 24
// bits, and of the nine products of two such sums the six of order 2^-16 and above are kept,
//
//   x w  ~  h wh + m wh + m wm + h wm + h wl + l wh,
//
// which errs by about 2^-24 |x w|, as one float32 rounding does (G. Henry, P. Tang, A. Heinecke:
// Leveraging the bfloat16 Artificial Intelligence Datatype For Higher-Precision Computations,
// ARITH 2019).
#pragma once

#include <cstdint>

#include "convolution_kernels.h"

namespace rulebook::cpu {

// Channels come in whole groups of 32, in and out: a tile's row of bfloat16.
inline constexpr int64_t kSplitChannels = 32;
inline constexpr int64_t kSplitParts = 3;
// Lists of pairs have room for so many more than there are: they are filled up to whole blocks.
inline constexpr int64_t kSplitPairSlack = 32;

// Parts cannot hold infinities and NaN, and lose bits next to the largest and the smallest floats.
// A row of features, or a whole weight, is extreme unless its largest magnitude is 0 or lies
// between these two.
inline constexpr float kSplitLeast = 0x1p-40F;
inline constexpr float kSplitMost = 0x1p60F;

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
  const uint16_t* parts;
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
  // parts [rows][in_channels / 32][3][32] of features [rows, in_channels], on cache lines.
  // extreme[r] = whether row r is. Returns how many are.
  int64_t (*split)(const float* features, int64_t rows, int64_t in_channels, uint16_t* parts,
                   uint8_t* extreme);

  // packed [out_channels / 32][in_channels / 32][3][2][16][16][2] of one kernel offset's weight
  // [in_channels, out_channels]: two tiles of 16 columns, each of 16 rows that hold two channels of
  // every column. False when the weight is extreme.
  bool (*pack)(const float* weight, int64_t in_channels, int64_t out_channels, uint16_t* packed);

  // Readies this thread for `accumulate`, and lets go of what that took.
  void (*begin)();
  void (*end)();

  // run.sums[out_row] += features[in_row] * offset.weight, for one offset after the other: `next`
  // is what the following call does, or null, and after the last one the sums are complete.
  void (*accumulate)(SplitRun& run, const SplitOffset& offset, const SplitOffset* next);
};

// Null where the compiler or the processor family knows no such unit.
const SplitKernels* AmxSplitKernels();

}  // namespace rulebook::cpu
