// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// The innermost step of building a rulebook, per instruction set: one level of the walk down two
// tries (trie_descent.h) along the runs of sites that share a prefix, called lines here. Built like
// convolution_kernels.h: a file for each instruction set, with nothing but the table visible.
#pragma once

#include <cstdint>

#include "rulebook/isa.h"

namespace rulebook::cpu {

struct LinesView {
  const int32_t* coord;  // [nodes]
  const int32_t* begin;  // [lines + 1]: line l holds nodes [begin[l], begin[l + 1])
};

// A regular convolution without dilation, where input i feeds output o through k = i - (o * stride
// - padding). Every scaled coordinate fits an int32.
struct FillTask {
  LinesView in, out;
  const int32_t* line_neighbors;  // [line_offsets, out_lines]: the input line, or -1
  int64_t line_offsets, out_lines;
  int32_t kernel, stride, padding;
  int32_t* neighbors;  // [line_offsets * kernel, outputs]
  int64_t outputs;
};

struct LineKernels {
  // Writes every cell of the outputs in lines [first, last), and no other.
  void (*fill)(const FillTask& task, int64_t first, int64_t last);
};

const LineKernels& GenericLineKernels();
const LineKernels& Avx2LineKernels();
const LineKernels& Avx512LineKernels();
const LineKernels& LineKernelsOf(Isa isa);

}  // namespace rulebook::cpu
