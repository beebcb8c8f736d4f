// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#include "columns.h"
#include "coords_text.h"
#include "grid_key.h"
#include "site_scan.h"

namespace rulebook::cuda {
namespace {

template <int kColumns>
__global__ void ScanRows(const int32_t* coords, int64_t count, KeyGrid grid, SiteReport* report,
                         uint64_t* keys, int32_t* rows) {
  const int64_t row = GlobalThread();
  if (row >= count) return;
  const int32_t* site = coords + row * kColumns;
  uint64_t key = 0;
  const bool inside = PackSite<kColumns>(grid, site, &key);
  if (!inside) NoteRow(&report->outside, row);
  uint64_t before = 0;
  if (row > 0) {
    PackSite<kColumns>(grid, site - kColumns, &before);
    if (key <= before) NoteRow(&report->unordered, row);
  }
  if (keys == nullptr) return;
  keys[row] = key;
  rows[row] = static_cast<int32_t>(row);
}

}  // namespace

void ScanSites(CudaContext& context, CoordsView coords, const SpatialShape& shape,
               SiteReport* report, uint64_t* keys, int32_t* rows) {
  FillBytes(context, report, 0x7F, 1);
  WithColumns(coords.columns(), [&](auto columns) {
    Launch(context, OneThreadEach(coords.rows), &ScanRows<columns>, coords.data, coords.rows,
           MakeKeyGrid(shape), report, keys, rows);
  });
}

void CheckInside(CudaContext& context, CoordsView coords, const SpatialShape& shape,
                 const SiteReport& report) {
  if (report.outside == kNone) return;
  const std::vector<int32_t> site = ReadSite(context, coords, report.outside);
  cpu::ThrowOutside("coords", site.data(), report.outside, kMaxBatchSize, shape);
}

void CheckCanonical(CudaContext& context, CoordsView coords, const SpatialShape& shape,
                    const SiteReport& report) {
  const int64_t row = report.unordered;
  if (report.outside <= row) CheckInside(context, coords, shape, report);
  if (row == kNone) return;
  const std::vector<int32_t> before = ReadSite(context, coords, row - 1);
  const std::vector<int32_t> site = ReadSite(context, coords, row);
  cpu::ThrowUnordered("coords", before.data(), site.data(), coords.columns(), row);
}

std::vector<int32_t> ReadSite(CudaContext& context, CoordsView coords, int64_t row) {
  std::vector<int32_t> site(static_cast<size_t>(coords.columns()));
  ReadBack(context, coords.row(row), coords.columns(), site.data());
  return site;
}

}  // namespace rulebook::cuda
