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

// The sorted places of group v are [begin[v], end[v]); both are 0 where no row goes.
__global__ void MarkGroups(const uint32_t* keys, int64_t inputs, int64_t outputs, int32_t* begin,
                           int32_t* end) {
  const int64_t place = GlobalThread();
  if (place >= inputs) return;
  const uint32_t v = keys[place];
  if (v >= outputs) return;
  if (place == 0 || keys[place - 1] != v) begin[v] = static_cast<int32_t>(place);
  if (place == inputs - 1 || keys[place + 1] != v) end[v] = static_cast<int32_t>(place + 1);
}

template <typename T>
__global__ void ReduceGroups(const T* x, int64_t channels, const int32_t* order,
                             const int32_t* begin, const int32_t* end, int64_t outputs,
                             ReduceMode mode, RowLanes lanes, T* out) {
  const int64_t v = LaneRow(lanes);
  if (v >= outputs) return;
  const int64_t first = begin[v];
  int64_t last = end[v];
  if (mode == ReduceMode::kFirst && first < last) last = first + 1;
  for (int64_t c = LaneFirst(lanes); c < channels; c += LaneStep(lanes)) {
    float result = first < last ? ToFloat(x[order[first] * channels + c]) : 0.0F;
    for (int64_t place = first + 1; place < last; ++place) {
      const float value = ToFloat(x[order[place] * channels + c]);
      result = mode == ReduceMode::kMax ? MaxOf(result, value) : result + value;
    }
    if (mode == ReduceMode::kMean && first < last) result /= static_cast<float>(last - first);
    out[v * channels + c] = FromFloat<T>(result);
  }
}

int BitsOf(int64_t largest) {
  int bits = 1;
  while ((largest >> bits) != 0) ++bits;
  return bits;
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
  const cuda::Scratch<int32_t> sorted(context, inputs);
  const cuda::Scratch<int32_t> begin(context, outputs);
  const cuda::Scratch<int32_t> end(context, outputs);
  cuda::FillBytes(context, begin.get(), 0, outputs);
  cuda::FillBytes(context, end.get(), 0, outputs);
  {
    const cuda::Scratch<uint32_t> keys(context, inputs);
    const cuda::Scratch<uint32_t> sorted_keys(context, inputs);
    const cuda::Scratch<int32_t> order(context, inputs);
    cuda::Launch(context, cuda::OneThreadEach(inputs), &cuda::KeyRows, row, inputs, outputs,
                 keys.get(), order.get());
    cuda::SortPairs(context, keys.get(), sorted_keys.get(), order.get(), sorted.get(), inputs,
                    cuda::BitsOf(outputs));
    cuda::Launch(context, cuda::OneThreadEach(inputs), &cuda::MarkGroups, sorted_keys.get(), inputs,
                 outputs, begin.get(), end.get());
  }
  const cuda::RowLanes lanes = cuda::LanesFor(channels);
  cuda::Launch(context, cuda::LanesForEach(outputs, lanes), &cuda::ReduceGroups<cuda::Native<T>>,
               cuda::AsNative(x), channels, sorted.get(), begin.get(), end.get(), outputs, mode,
               lanes, cuda::AsNative(out));
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
