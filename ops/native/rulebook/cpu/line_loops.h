// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// Fills a rulebook line by line, over a vector type `Ints` that the including file defines for its
// instruction set. Everything is in an unnamed namespace on purpose: see convolution_kernels.h.
//
// Lines of real scans are a few sites long, so a scalar merge of two of them is mostly mispredicted
// branches. Here a vector holds a run of outputs and every input near them is compared with all of
// them at once; no branch depends on which pairs exist.
#pragma once

#include "line_kernels.h"

namespace rulebook::cpu {
namespace {

// Up to this many inputs it is cheaper to compare with all of them than to look for the first.
constexpr int64_t kShortLine = 8;

// Outputs [begin, begin + count) of one line against one line of inputs. `first` is the first input
// that can still matter and moves up. kKernel = 0 takes the kernel size from the task.
template <typename Ints, int kKernel>
inline __attribute__((always_inline)) void FillRun(const FillTask& task, int64_t begin,
                                                   int64_t count, int64_t& first, int64_t in_end,
                                                   int32_t* cells) {
  const int32_t kernel = kKernel > 0 ? kKernel : task.kernel;
  const int32_t* in = task.in.coord;
  const int32_t* out = task.out.coord + begin;
  const int32_t low = out[0] * task.stride - task.padding;
  const int32_t high = out[count - 1] * task.stride - task.padding + (kernel - 1);
  if (in_end - first > kShortLine) {
    while (first < in_end && in[first] < low) ++first;
  }
  const typename Ints::Type lows =
      Ints::Subtract(Ints::Multiply(Ints::LoadSome(out, count), Ints::Broadcast(task.stride)),
                     Ints::Broadcast(task.padding));
  if constexpr (kKernel > 0) {
    typename Ints::Type found[kKernel];
#pragma GCC unroll 8
    for (int32_t k = 0; k < kKernel; ++k) found[k] = Ints::Broadcast(-1);
    // A few inputs at a time, the last one repeated: few lines need a second round, so that the
    // loop's end is no coin toss either.
    constexpr int64_t kRound = 4;
    for (int64_t round = first; round < in_end && in[round] <= high; round += kRound) {
#pragma GCC unroll 4
      for (int64_t j = 0; j < kRound; ++j) {
        const int64_t i = round + j < in_end ? round + j : in_end - 1;
        const typename Ints::Type offset = Ints::Subtract(Ints::Broadcast(in[i]), lows);
#pragma GCC unroll 8
        for (int32_t k = 0; k < kKernel; ++k) {
          found[k] = Ints::SelectEqual(offset, Ints::Broadcast(k),
                                       Ints::Broadcast(static_cast<int32_t>(i)), found[k]);
        }
      }
    }
#pragma GCC unroll 8
    for (int32_t k = 0; k < kKernel; ++k) {
      Ints::StoreSome(cells + k * task.outputs + begin, found[k], count);
    }
  } else {
    for (int32_t k = 0; k < kernel; ++k) {
      typename Ints::Type found = Ints::Broadcast(-1);
      for (int64_t i = first; i < in_end && in[i] <= high; ++i) {
        const typename Ints::Type offset = Ints::Subtract(Ints::Broadcast(in[i]), lows);
        found = Ints::SelectEqual(offset, Ints::Broadcast(k),
                                  Ints::Broadcast(static_cast<int32_t>(i)), found);
      }
      Ints::StoreSome(cells + k * task.outputs + begin, found, count);
    }
  }
}

template <typename Ints, int kKernel>
void FillLines(const FillTask& task, int64_t first_line, int64_t last_line) {
  for (int64_t line = first_line; line < last_line; ++line) {
    const int64_t out_begin = task.out.begin[line];
    const int64_t out_end = task.out.begin[line + 1];
    for (int64_t offset = 0; offset < task.line_offsets; ++offset) {
      const int32_t in_line = task.line_neighbors[offset * task.out_lines + line];
      int64_t first = in_line < 0 ? 0 : task.in.begin[in_line];
      const int64_t in_end = in_line < 0 ? 0 : task.in.begin[in_line + 1];
      int32_t* cells = task.neighbors + offset * task.kernel * task.outputs;
      for (int64_t begin = out_begin; begin < out_end; begin += Ints::kLanes) {
        const int64_t left = out_end - begin;
        const int64_t count = left < Ints::kLanes ? left : Ints::kLanes;
        FillRun<Ints, kKernel>(task, begin, count, first, in_end, cells);
      }
    }
  }
}

template <typename Ints>
void Fill(const FillTask& task, int64_t first_line, int64_t last_line) {
  switch (task.kernel) {
    case 1:
      return FillLines<Ints, 1>(task, first_line, last_line);
    case 2:
      return FillLines<Ints, 2>(task, first_line, last_line);
    case 3:
      return FillLines<Ints, 3>(task, first_line, last_line);
    case 5:
      return FillLines<Ints, 5>(task, first_line, last_line);
    case 7:
      return FillLines<Ints, 7>(task, first_line, last_line);
    default:
      return FillLines<Ints, 0>(task, first_line, last_line);
  }
}

}  // namespace
}  // namespace rulebook::cpu
