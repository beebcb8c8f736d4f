// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// Rows moved and reduced without a word to the host. A reduction sorts the rows by where they go,
// which is stable: each group is then walked by its own threads in the order of the input.
#include "device.h"
#include "element.h"
#include "reduce.h"
#include "row_lanes.h"
#include "rulebook/rows.h"
#include "rulebook/shape.h"
#include "runs.h"

namespace rulebook {
namespace cuda {
namespace {

template <typename T>
__global__ void Gather(const T* x, int64_t inputs, int64_t channels, const int32_t* row,
                       int64_t outputs, T fill, RowLanes lanes, T* out) {
  const int64_t p = LaneRow(lanes);
  if (p >= outputs) return;
  const int64_t source = row[p];
  const bool found = source >= 0 && source < inputs;
  for (int64_t c = LaneFirst(lanes); c < channels; c += LaneStep(lanes)) {
    out[p * channels + c] = found ? x[source * channels + c] : fill;
  }
}

// Rows that go nowhere come after all others.
__global__ void KeyRows(const int32_t* row, int64_t inputs, int64_t outputs, uint32_t* keys,
                        int32_t* order) {
  const int64_t p = GlobalThread();
  if (p >= inputs) return;
  const int64_t v = row[p];
  keys[p] = static_cast<uint32_t>(v >= 0 && v < outputs ? v : outputs);
  order[p] = static_cast<int32_t>(p);
}

// groups [outputs] are all 0 before, and stay so where no row goes.
__global__ void MarkGroups(const uint32_t* keys, int64_t inputs, int64_t outputs, Run* groups) {
  const int64_t place = GlobalThread();
  if (place >= inputs) return;
  const uint32_t v = keys[place];
  if (v >= outputs) return;
  if (place == 0 || keys[place - 1] != v) groups[v].begin = static_cast<int32_t>(place);
  if (place == inputs - 1 || keys[place + 1] != v) groups[v].end = static_cast<int32_t>(place + 1);
}

template <typename T>
__global__ void ReduceGroups(const T* x, int64_t channels, const int32_t* order, const Run* groups,
                             int64_t outputs, ReduceMode mode, RowLanes lanes, T* out) {
  const int64_t v = LaneRow(lanes);
  if (v >= outputs) return;
  const Run group = groups[v];
  int64_t count = group.end - group.begin;
  if (mode == ReduceMode::kFirst && count > 0) count = 1;
  const int32_t* rows = order + group.begin;
  for (int64_t c = LaneFirst(lanes); c < channels; c += LaneStep(lanes)) {
    float result = 0.0F;
    if (count > 0) {
      result = FoldRun(
          count, [&](int64_t i) { return ToFloat(x[rows[i] * channels + c]); },
          [&](float before, float value) {
            return mode == ReduceMode::kMax ? MaxOf(before, value) : before + value;
          });
    }
    if (mode == ReduceMode::kMean && count > 0) result /= static_cast<float>(count);
    out[v * channels + c] = FromFloat<T>(result);
  }
}

}  // namespace
}  // namespace cuda

template <Device D, typename T>
void GatherRows(Context<D>& context, const T* x, int64_t inputs, int64_t channels,
                const int32_t* row, int64_t outputs, T fill, T* out) {
  const cuda::RowLanes lanes = cuda::LanesFor(channels);
  cuda::Launch(context, cuda::LanesForEach(outputs, lanes), &cuda::Gather<T>, x, inputs, channels,
               row, outputs, fill, lanes, out);
}

template <Device D, typename T>
void ReduceRows(Context<D>& context, const T* x, int64_t inputs, int64_t channels,
                const int32_t* row, int64_t outputs, ReduceMode mode, T* out) {
  if (inputs > kMaxSites) ThrowTooLarge("row: ", inputs, " values are over the limit ", kMaxSites);
  if (outputs > kMaxSites) {
    ThrowTooLarge("row: ", outputs, " groups are over the limit ", kMaxSites);
  }
  if (outputs == 0) return;
  const cuda::Scratch<int32_t> sorted(context, inputs);
  const cuda::Scratch<cuda::Run> groups(context, outputs);
  cuda::FillBytes(context, groups.get(), 0, outputs);
  {
    const cuda::Scratch<uint32_t> keys(context, inputs);
    const cuda::Scratch<uint32_t> sorted_keys(context, inputs);
    const cuda::Scratch<int32_t> order(context, inputs);
    cuda::Launch(context, cuda::OneThreadEach(inputs), &cuda::KeyRows, row, inputs, outputs,
                 keys.get(), order.get());
    cuda::SortPairs(context, keys.get(), sorted_keys.get(), order.get(), sorted.get(), inputs,
                    cuda::BitWidth(static_cast<uint64_t>(outputs)));
    cuda::Launch(context, cuda::OneThreadEach(inputs), &cuda::MarkGroups, sorted_keys.get(), inputs,
                 outputs, groups.get());
  }
  const cuda::RowLanes lanes = cuda::LanesFor(channels);
  cuda::Launch(context, cuda::LanesForEach(outputs, lanes), &cuda::ReduceGroups<cuda::Native<T>>,
               cuda::AsNative(x), channels, sorted.get(), groups.get(), outputs, mode, lanes,
               cuda::AsNative(out));
}

template void GatherRows<Device::kCuda>(CudaContext&, const float*, int64_t, int64_t,
                                        const int32_t*, int64_t, float, float*);
template void GatherRows<Device::kCuda>(CudaContext&, const Float16*, int64_t, int64_t,
                                        const int32_t*, int64_t, Float16, Float16*);
template void GatherRows<Device::kCuda>(CudaContext&, const BFloat16*, int64_t, int64_t,
                                        const int32_t*, int64_t, BFloat16, BFloat16*);
template void GatherRows<Device::kCuda>(CudaContext&, const int32_t*, int64_t, int64_t,
                                        const int32_t*, int64_t, int32_t, int32_t*);
template void GatherRows<Device::kCuda>(CudaContext&, const int64_t*, int64_t, int64_t,
                                        const int32_t*, int64_t, int64_t, int64_t*);

template void ReduceRows<Device::kCuda>(CudaContext&, const float*, int64_t, int64_t,
                                        const int32_t*, int64_t, ReduceMode, float*);
template void ReduceRows<Device::kCuda>(CudaContext&, const Float16*, int64_t, int64_t,
                                        const int32_t*, int64_t, ReduceMode, Float16*);
template void ReduceRows<Device::kCuda>(CudaContext&, const BFloat16*, int64_t, int64_t,
                                        const int32_t*, int64_t, ReduceMode, BFloat16*);

}  // namespace rulebook
