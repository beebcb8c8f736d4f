// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// cpu/site_key.h on the device: a site packed into one integer whose order is the canonical order.
#pragma once

#include "device.h"
#include "rulebook/shape.h"

namespace rulebook::cuda {

// How sites of one grid are packed. Column 0, the batch index, is the most significant.
struct KeyGrid {
  int64_t size[1 + kMaxAxes];
};

inline KeyGrid MakeKeyGrid(const SpatialShape& shape) {
  KeyGrid grid{};
  grid.size[0] = kMaxBatchSize;
  for (int axis = 0; axis < shape.axes; ++axis) grid.size[1 + axis] = shape[axis];
  return grid;
}

// The lowest key that is no site's; the shape has been through CheckSpatialShape.
inline uint64_t KeyCount(const SpatialShape& shape, int64_t batch_size = kMaxBatchSize) {
  auto count = static_cast<uint64_t>(batch_size);
  for (int axis = 0; axis < shape.axes; ++axis) count *= static_cast<uint64_t>(shape[axis]);
  return count;
}

// Bits that keys of the grid may have set; 1 at least, as none are none to sort by.
inline int KeyBits(const SpatialShape& shape, int64_t batch_size = kMaxBatchSize) {
  return std::max(1, BitWidth(KeyCount(shape, batch_size) - 1));
}

// Packs a site and says whether it lies inside the grid; outside, the key means nothing.
template <int kColumns, typename Value>
__device__ inline bool PackSite(const KeyGrid& grid, const Value* site, uint64_t* key) {
  uint64_t packed = 0;
  bool inside = true;
#pragma unroll
  for (int c = 0; c < kColumns; ++c) {
    const int64_t value = site[c];
    inside &= value >= 0 && value < grid.size[c];
    packed = packed * static_cast<uint64_t>(grid.size[c]) + static_cast<uint64_t>(value);
  }
  *key = packed;
  return inside;
}

// The site of a key that PackSite made of a site inside the grid.
template <int kColumns>
__device__ inline void UnpackSite(const KeyGrid& grid, uint64_t key, int32_t* site) {
#pragma unroll
  for (int c = kColumns - 1; c > 0; --c) {
    const auto size = static_cast<uint64_t>(grid.size[c]);
    site[c] = static_cast<int32_t>(key % size);
    key /= size;
  }
  site[0] = static_cast<int32_t>(key);
}

}  // namespace rulebook::cuda
