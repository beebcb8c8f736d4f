// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "rulebook/error.h"

namespace rulebook {

inline constexpr int kMaxAxes = 4;

// Limits on what one call may generate, so that a hostile or mistaken model is an error and never
// an out-of-memory kill.
inline constexpr int64_t kMaxSites = int64_t{1} << 26;          // rows of coords, in or out
inline constexpr int64_t kMaxRulebookCells = int64_t{1} << 30;  // K * M of one rulebook
inline constexpr int64_t kMaxDenseElements = int64_t{1} << 30;  // elements of one dense tensor
inline constexpr int64_t kMaxKernelVolume = 4096;
inline constexpr int64_t kMaxBatchSize = int64_t{1} << 16;  // batch index is below this

using AxisValues = std::array<int64_t, kMaxAxes>;

// One int64 per spatial axis (a size, a stride, …), in spatial_shape order; only the first `axes`
// values mean anything.
struct PerAxis {
  int axes = 0;
  AxisValues value{};

  int64_t operator[](int axis) const { return value[static_cast<size_t>(axis)]; }
  int64_t& operator[](int axis) { return value[static_cast<size_t>(axis)]; }
};

using SpatialShape = PerAxis;

std::string ToString(const PerAxis& values);  // "[41, 1600, 1408]"

// a * b for non-negative factors; throws ResourceExhausted naming `what` when it passes `limit`.
int64_t CheckedProduct(int64_t a, int64_t b, int64_t limit, const char* what);

// Throws unless 1 <= axes <= kMaxAxes, every size is in [1, 2^31) and a site packed with its batch
// index (kMaxBatchSize values) fits one non-negative int64.
void CheckSpatialShape(const SpatialShape& shape);

}  // namespace rulebook
