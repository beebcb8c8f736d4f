// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#include "rulebook/rows.h"

#include <algorithm>

#include "parallel.h"
#include "row_groups.h"
#include "rulebook/half.h"
#include "rulebook/shape.h"
#include "vector_ops.h"

namespace rulebook {
namespace {

// Reduces the rows x[p[0]], x[p[1]], … (count > 0) into out [channels].
void ReduceGroup(const float* x, int64_t channels, const int32_t* p, int64_t count, ReduceMode mode,
                 float* out) {
  std::copy_n(x + p[0] * channels, channels, out);
  if (mode == ReduceMode::kFirst) return;
  for (int64_t i = 1; i < count; ++i) {
    const float* source = x + p[i] * channels;
    if (mode == ReduceMode::kMax) {
      cpu::MaxInto(source, channels, out);
    } else {
      cpu::AddInto(source, channels, out);
    }
  }
  if (mode == ReduceMode::kMean) cpu::Divide(static_cast<float>(count), channels, out);
}

}  // namespace

// Rows are moved, not read: one definition for every element type.
template <Device D, typename T>
void GatherRows(Context<D>& context, const T* x, int64_t inputs, int64_t channels,
                const int32_t* row, int64_t outputs, T fill, T* out) {
  auto gather = [&](int64_t, int64_t begin, int64_t end) {
    for (int64_t p = begin; p < end; ++p) {
      const int64_t source = row[p];
      if (source < -1 || source >= inputs) {
        ThrowInvalid("row: row[", p, "] is ", source, ", not in [-1, ", inputs, ")");
      }
      if (source < 0) {
        std::fill_n(out + p * channels, channels, fill);
      } else {
        std::copy_n(x + source * channels, channels, out + p * channels);
      }
    }
  };
  cpu::ForBlocks(context, outputs, cpu::RowsPerTask(channels), gather);
}

template void GatherRows<Device::kCpu>(CpuContext&, const float*, int64_t, int64_t, const int32_t*,
                                       int64_t, float, float*);
template void GatherRows<Device::kCpu>(CpuContext&, const Float16*, int64_t, int64_t,
                                       const int32_t*, int64_t, Float16, Float16*);
template void GatherRows<Device::kCpu>(CpuContext&, const BFloat16*, int64_t, int64_t,
                                       const int32_t*, int64_t, BFloat16, BFloat16*);
template void GatherRows<Device::kCpu>(CpuContext&, const int32_t*, int64_t, int64_t,
                                       const int32_t*, int64_t, int32_t, int32_t*);
template void GatherRows<Device::kCpu>(CpuContext&, const int64_t*, int64_t, int64_t,
                                       const int32_t*, int64_t, int64_t, int64_t*);

template <>
void ReduceRows<Device::kCpu, float>(CpuContext& context, const float* x, int64_t inputs,
                                     int64_t channels, const int32_t* row, int64_t outputs,
                                     ReduceMode mode, float* out) {
  const cpu::RowGroups groups = cpu::GroupByRow(row, inputs, outputs);
  auto reduce = [&](int64_t, int64_t begin, int64_t end) {
    for (int64_t v = begin; v < end; ++v) {
      const int64_t count = groups.size(v);
      if (count == 0) {
        std::fill_n(out + v * channels, channels, 0.0F);
      } else {
        ReduceGroup(x, channels, groups.members(v), count, mode, out + v * channels);
      }
    }
  };
  cpu::ForBlocks(context, outputs, cpu::RowsPerTask(channels), reduce);
}

}  // namespace rulebook
