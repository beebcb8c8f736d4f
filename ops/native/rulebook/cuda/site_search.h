// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// Canonical sites searched as they lie, for calls that do not know which grid the sites are of.
#pragma once

#include "device.h"

namespace rulebook::cuda {

// Below zero, zero or above, as site a comes before b, is b, or comes after it.
template <int kColumns>
__device__ inline int CompareSites(const int32_t* a, const int32_t* b) {
#pragma unroll
  for (int c = 0; c < kColumns; ++c) {
    if (a[c] != b[c]) return a[c] < b[c] ? -1 : 1;
  }
  return 0;
}

// The first row that does not come before `site`; `rows` if all do. Within [0, rows] whatever the
// order of the sites.
template <int kColumns>
__device__ inline int64_t LowerBound(const int32_t* coords, int64_t rows, const int32_t* site) {
  int64_t low = 0;
  int64_t high = rows;
  while (low < high) {
    const int64_t middle = low + (high - low) / 2;
    if (CompareSites<kColumns>(coords + middle * kColumns, site) < 0) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

// Whether `row`, one of [0, rows], is the site's.
template <int kColumns>
__device__ inline bool IsSite(const int32_t* coords, int64_t rows, int64_t row,
                              const int32_t* site) {
  return row < rows && CompareSites<kColumns>(coords + row * kColumns, site) == 0;
}

}  // namespace rulebook::cuda
