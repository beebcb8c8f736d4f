// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// The device-wide algorithms of device.h as plain loops.
#include <algorithm>
#include <numeric>
#include <vector>

#include "device.h"

namespace rulebook::cuda {
namespace {

template <typename Key>
Key LowBits(int bits) {
  return static_cast<Key>(~Key{0} >> (sizeof(Key) * 8 - static_cast<size_t>(bits)));
}

template <typename Key>
void Sort(const Key* keys, Key* sorted_keys, const int32_t* values, int32_t* sorted_values,
          int64_t count, int bits) {
  const auto low = LowBits<Key>(bits);
  std::vector<int64_t> order(static_cast<size_t>(std::max<int64_t>(count, 0)));
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int64_t a, int64_t b) { return (keys[a] & low) < (keys[b] & low); });
  for (size_t i = 0; i < order.size(); ++i) {
    sorted_keys[i] = keys[order[i]];
    sorted_values[i] = values[order[i]];
  }
}

}  // namespace

void SortPairs(CudaContext& /*context*/, const uint64_t* keys, uint64_t* sorted_keys,
               const int32_t* values, int32_t* sorted_values, int64_t count, int bits) {
  cuda_emulation::LogCall("sort");
  Sort(keys, sorted_keys, values, sorted_values, count, bits);
}

void SortPairs(CudaContext& /*context*/, const uint32_t* keys, uint32_t* sorted_keys,
               const int32_t* values, int32_t* sorted_values, int64_t count, int bits) {
  cuda_emulation::LogCall("sort");
  Sort(keys, sorted_keys, values, sorted_values, count, bits);
}

void SortKeys(CudaContext& /*context*/, const uint64_t* keys, uint64_t* sorted_keys, int64_t count,
              int bits) {
  cuda_emulation::LogCall("sort");
  const auto low = LowBits<uint64_t>(bits);
  std::copy_n(keys, std::max<int64_t>(count, 0), sorted_keys);
  std::stable_sort(sorted_keys, sorted_keys + std::max<int64_t>(count, 0),
                   [&](uint64_t a, uint64_t b) { return (a & low) < (b & low); });
}

void InclusiveSum(CudaContext& /*context*/, const int32_t* values, int32_t* sums, int64_t count) {
  cuda_emulation::LogCall("sum");
  int32_t sum = 0;
  for (int64_t i = 0; i < count; ++i) sums[i] = sum += values[i];
}

void ExclusiveSum(CudaContext& /*context*/, const int32_t* values, int32_t* sums, int64_t count) {
  cuda_emulation::LogCall("sum");
  int32_t sum = 0;
  for (int64_t i = 0; i < count; ++i) {
    const int32_t value = values[i];
    sums[i] = sum;
    sum += value;
  }
}

}  // namespace rulebook::cuda
