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

// A run of at most a vector of outputs of one line, and the inputs that its first kernel index
// wants. All lines of inputs meet the same run, so it is made once.
template <typename Ints>
struct Run {
  Run(const FillTask& task, int64_t run_begin, int64_t run_end)
      : begin(run_begin),
        count(run_end - run_begin < Ints::kLanes ? run_end - run_begin : Ints::kLanes),
        low(task.out.coord[begin] * task.stride - task.padding),
        high(task.out.coord[begin + count - 1] * task.stride - task.padding + (task.kernel - 1)),
        lows(Ints::Subtract(Ints::Multiply(Ints::LoadSome(task.out.coord + begin, count),
                                           Ints::Broadcast(task.stride)),
                            Ints::Broadcast(task.padding))) {}

  const int64_t begin, count;
  const int32_t low, high;  // least and greatest coordinate of an input that feeds the run
  const typename Ints::Type lows;
};

// One run against one line of inputs. `first` is the first input that can still matter and moves
// up. kKernel = 0 takes the kernel size from the task.
template <typename Ints, int kKernel>
inline __attribute__((always_inline)) void FillRun(const FillTask& task, const Run<Ints>& run,
                                                   int64_t& first, int64_t in_end, int32_t* cells) {
  const int32_t kernel = kKernel > 0 ? kKernel : task.kernel;
  const int32_t* in = task.in.coord;
  if (in_end - first > kShortLine) {
    while (first < in_end && in[first] < run.low) ++first;
  }
  if constexpr (kKernel > 0) {
    typename Ints::Type found[kKernel];
#pragma GCC unroll 8
    for (int32_t k = 0; k < kKernel; ++k) found[k] = Ints::Broadcast(-1);
    // A few inputs at a time, the last one repeated: few lines need a second round, so that the
    // loop's end is no coin toss either.
    constexpr int64_t kRound = 4;
    for (int64_t round = first; round < in_end && in[round] <= run.high; round += kRound) {
#pragma GCC unroll 4
      for (int64_t j = 0; j < kRound; ++j) {
        const int64_t i = round + j < in_end ? round + j : in_end - 1;
        const typename Ints::Type offset = Ints::Subtract(Ints::Broadcast(in[i]), run.lows);
#pragma GCC unroll 8
        for (int32_t k = 0; k < kKernel; ++k) {
          found[k] = Ints::SelectEqual(offset, Ints::Broadcast(k),
                                       Ints::Broadcast(static_cast<int32_t>(i)), found[k]);
        }
      }
    }
#pragma GCC unroll 8
    for (int32_t k = 0; k < kKernel; ++k) {
      Ints::StoreSome(cells + k * task.outputs + run.begin, found[k], run.count);
    }
  } else {
    for (int32_t k = 0; k < kernel; ++k) {
      typename Ints::Type found = Ints::Broadcast(-1);
      for (int64_t i = first; i < in_end && in[i] <= run.high; ++i) {
        const typename Ints::Type offset = Ints::Subtract(Ints::Broadcast(in[i]), run.lows);
        found = Ints::SelectEqual(offset, Ints::Broadcast(k),
                                  Ints::Broadcast(static_cast<int32_t>(i)), found);
      }
      Ints::StoreSome(cells + k * task.outputs + run.begin, found, run.count);
    }
  }
}

// The inputs of one line that are still to be compared.
struct InputLine {
  int64_t first, end;
};

inline InputLine InputLineOf(const FillTask& task, int64_t offset, int64_t out_line) {
  const int32_t line = task.line_neighbors[offset * task.out_lines + out_line];
  if (line < 0) return {0, 0};
  return {task.in.begin[line], task.in.begin[line + 1]};
}

template <typename Ints, int kKernel>
void FillLines(const FillTask& task, int64_t first_line, int64_t last_line) {
  const int64_t offset_cells = task.kernel * task.outputs;
  for (int64_t line = first_line; line < last_line; ++line) {
    const int64_t begin = task.out.begin[line];
    const int64_t end = task.out.begin[line + 1];
    if (begin == end) continue;
    if (end - begin <= Ints::kLanes) {
      const Run<Ints> run(task, begin, end);
      for (int64_t offset = 0; offset < task.line_offsets; ++offset) {
        InputLine in = InputLineOf(task, offset, line);
        FillRun<Ints, kKernel>(task, run, in.first, in.end, task.neighbors + offset * offset_cells);
      }
      continue;
    }
    for (int64_t offset = 0; offset < task.line_offsets; ++offset) {
      InputLine in = InputLineOf(task, offset, line);
      for (int64_t o = begin; o < end; o += Ints::kLanes) {
        FillRun<Ints, kKernel>(task, Run<Ints>(task, o, end), in.first, in.end,
                               task.neighbors + offset * offset_cells);
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
