// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// A site packed into one integer whose order is the canonical order.
#pragma once

#include <array>
#include <cstdint>

#include "rulebook/coords.h"
#include "rulebook/shape.h"

namespace rulebook::cpu {

// The box of sites whose keys are in use: column c of a coords row lies in [low, low + size).
// Column 0, the batch index, is the most significant.
struct KeyBox {
  int columns = 0;
  std::array<int64_t, 1 + kMaxAxes> low{};
  std::array<uint64_t, 1 + kMaxAxes> size{};
};

// All batch indices and all sites of a grid; `shape` has been through CheckSpatialShape.
inline KeyBox GridBox(const SpatialShape& shape) {
  KeyBox box;
  box.columns = 1 + shape.axes;
  box.size[0] = static_cast<uint64_t>(kMaxBatchSize);
  for (int axis = 0; axis < shape.axes; ++axis) {
    box.size[static_cast<size_t>(axis) + 1] = static_cast<uint64_t>(shape[axis]);
  }
  return box;
}

// Keys lie below it; CheckSpatialShape holds it to 63 bits.
inline uint64_t KeyCount(const KeyBox& box) {
  uint64_t count = 1;
  for (size_t c = 0; c < static_cast<size_t>(box.columns); ++c) count *= box.size[c];
  return count;
}

// Packs a row and says whether it lies inside the box; outside, the key means nothing.
template <int kColumns>
inline bool PackSite(const KeyBox& box, const int32_t* row, uint64_t* key) {
  uint64_t packed = 0;
  bool inside = true;
  for (size_t c = 0; c < kColumns; ++c) {
    // A value below `low` wraps to a huge one, so one comparison checks both ends.
    const uint64_t value = static_cast<uint64_t>(int64_t{row[c]} - box.low[c]);
    inside &= value < box.size[c];
    packed = packed * box.size[c] + value;
  }
  *key = packed;
  return inside;
}

}  // namespace rulebook::cpu
