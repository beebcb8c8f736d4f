// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// What a convolution needs from one instruction set. Each set has a file convolution_<isa>.cc that
// fills this table from the templates of convolution_loops.h; nothing else in those files has
// external linkage, so that the linker can never pick, for a machine without the instructions, a
// copy of an inline function that was compiled with them.
#pragma once

#include <cstdint>

namespace rulebook::cpu {

// The pairs of one kernel offset within one tile of output rows.
struct TilePairs {
  int32_t* in_row;   // [capacity] row of features
  int32_t* out_row;  // [capacity] row of the tile
  int64_t count;
};

// Columns of one panel of packed weight: in_channels rows of `width` floats.
struct Panel {
  const float* weight;
  int64_t width;
};

struct ConvKernels {
  // Panels are at most this wide, and their width is a multiple of `lanes`.
  int64_t lanes;
  int64_t max_panel_width;
  // Capacity TilePairs needs beyond the number of rows.
  int64_t pair_slack;

  // Finds the cells of neighbors [rows] that are >= 0. False when one is outside [-1, inputs).
  // next [rows] is fetched meanwhile: the cells of the offset after this one lie far away, in
  // pieces too short for the processor to foresee.
  bool (*find_pairs)(const int32_t* neighbors, int64_t rows, int32_t inputs, const int32_t* next,
                     TilePairs& pairs);

  // sums[out_row][0 … width) += features[in_row][0 … in_channels) * panel, channels ascending.
  void (*accumulate)(const float* features, int64_t feature_stride, int64_t in_channels,
                     const TilePairs& pairs, Panel panel, float* sums, int64_t sum_stride);

  // sums[out_row][c] += weight[c] * features[in_row][c] for c in [0, channels).
  void (*accumulate_depthwise)(const float* features, int64_t channels, const TilePairs& pairs,
                               const float* weight, float* sums, int64_t sum_stride);

  // Every row of sums [rows, width] = row [width].
  void (*fill_rows)(const float* row, int64_t rows, int64_t width, float* sums);

  // values = max(values, 0), NaN staying NaN.
  void (*relu)(float* values, int64_t count);
};

const ConvKernels& GenericConvKernels();
const ConvKernels& Avx2ConvKernels();
const ConvKernels& Avx512ConvKernels();

}  // namespace rulebook::cpu
