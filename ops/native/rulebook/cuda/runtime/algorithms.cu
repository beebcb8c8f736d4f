// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// The device-wide algorithms of device.h, by CUB.
#include <cub/device/device_radix_sort.cuh>
#include <cub/device/device_scan.cuh>

#include "device.h"

namespace rulebook::cuda {
namespace {

// CUB's calls are made twice: to ask for their scratch memory and to do the work.
template <typename Algorithm>
void WithScratch(CudaContext& context, const char* what, const Algorithm& algorithm) {
  size_t bytes = 0;
  backend::Check(algorithm(nullptr, bytes), what);
  // CUB takes null for the question, so there must be some memory.
  const Scratch<unsigned char> scratch(context, static_cast<int64_t>(std::max<size_t>(bytes, 1)));
  backend::Check(algorithm(scratch.get(), bytes), what);
}

template <typename Key>
void Sort(CudaContext& context, const Key* keys, Key* sorted_keys, const int32_t* values,
          int32_t* sorted_values, int64_t count, int bits) {
  if (count <= 0) return;
  WithScratch(context, "sort", [&](void* scratch, size_t& bytes) {
    return cub::DeviceRadixSort::SortPairs(scratch, bytes, keys, sorted_keys, values, sorted_values,
                                           count, 0, bits, context.stream());
  });
}

}  // namespace

void SortPairs(CudaContext& context, const uint64_t* keys, uint64_t* sorted_keys,
               const int32_t* values, int32_t* sorted_values, int64_t count, int bits) {
  Sort(context, keys, sorted_keys, values, sorted_values, count, bits);
}

void SortPairs(CudaContext& context, const uint32_t* keys, uint32_t* sorted_keys,
               const int32_t* values, int32_t* sorted_values, int64_t count, int bits) {
  Sort(context, keys, sorted_keys, values, sorted_values, count, bits);
}

void SortKeys(CudaContext& context, const uint64_t* keys, uint64_t* sorted_keys, int64_t count,
              int bits) {
  if (count <= 0) return;
  WithScratch(context, "sort", [&](void* scratch, size_t& bytes) {
    return cub::DeviceRadixSort::SortKeys(scratch, bytes, keys, sorted_keys, count, 0, bits,
                                          context.stream());
  });
}

void InclusiveSum(CudaContext& context, const int32_t* values, int32_t* sums, int64_t count) {
  if (count <= 0) return;
  WithScratch(context, "prefix sum", [&](void* scratch, size_t& bytes) {
    return cub::DeviceScan::InclusiveSum(scratch, bytes, values, sums, count, context.stream());
  });
}

void ExclusiveSum(CudaContext& context, const int32_t* values, int32_t* sums, int64_t count) {
  if (count <= 0) return;
  WithScratch(context, "prefix sum", [&](void* scratch, size_t& bytes) {
    return cub::DeviceScan::ExclusiveSum(scratch, bytes, values, sums, count, context.stream());
  });
}

}  // namespace rulebook::cuda
