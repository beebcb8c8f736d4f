// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// Whether sites are canonical, looked at on the device and told, once read back, in the CPU's
// words.
#pragma once

#include <vector>

#include "device.h"
#include "rulebook/coords.h"

namespace rulebook::cuda {

constexpr int64_t kNone = 0x7F7F7F7F7F7F7F7F;  // above every row; all bytes are alike

// The lowest row of each kind, or kNone.
struct SiteReport {
  int64_t outside;    // not in the grid
  int64_t unordered;  // not above the row before
};

// Lowers *lowest to `row`. The look before spares the memory most of the atomics.
__device__ inline void NoteRow(int64_t* lowest, int64_t row) {
  if (row < LoadVolatile(lowest)) AtomicMin(lowest, row);
}

// Queues the look at all rows. keys and rows, of coords.rows each, get the sites' keys and 0, 1, …;
// both may be null.
void ScanSites(CudaContext& context, CoordsView coords, const SpatialShape& shape,
               SiteReport* report, uint64_t* keys, int32_t* rows);

// Throw for what a report that has been read back says: a row outside, or the first row that makes
// the sites not canonical.
void CheckInside(CudaContext& context, CoordsView coords, const SpatialShape& shape,
                 const SiteReport& report);
void CheckCanonical(CudaContext& context, CoordsView coords, const SpatialShape& shape,
                    const SiteReport& report);

// One row, read back.
std::vector<int32_t> ReadSite(CudaContext& context, CoordsView coords, int64_t row);

}  // namespace rulebook::cuda
