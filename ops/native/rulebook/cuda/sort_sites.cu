// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// Canonical order: one read-back for sites that have it already, two for others.
#include <vector>

#include "columns.h"
#include "coords_text.h"
#include "device.h"
#include "grid_key.h"
#include "rulebook/coords.h"
#include "rulebook/intake.h"
#include "site_scan.h"

namespace rulebook {
namespace cuda {
namespace {

// Of the sorted places.
struct RankReport {
  int64_t duplicate;  // the lowest with the key of the one before, or kNone
  int64_t distinct;   // how many sites differ
};

__global__ void NumberRows(int64_t count, int64_t* order, int64_t* rank) {
  const int64_t row = GlobalThread();
  if (row < count) order[row] = rank[row] = row;
}

__global__ void MarkDistinct(const uint64_t* keys, int64_t count, int32_t* first,
                             RankReport* report) {
  const int64_t place = GlobalThread();
  if (place >= count) return;
  const bool is_first = place == 0 || keys[place] != keys[place - 1];
  first[place] = is_first ? 1 : 0;
  if (!is_first) NoteRow(&report->duplicate, place);
}

// numbers[place]: the distinct keys up to and with this place.
__global__ void RankRows(const int32_t* rows, const int32_t* numbers, int64_t count, int64_t* rank,
                         RankReport* report) {
  const int64_t place = GlobalThread();
  if (place >= count) return;
  rank[rows[place]] = numbers[place] - 1;
  if (place == count - 1) report->distinct = numbers[place];
}

template <int kColumns>
__global__ void GatherDistinct(const int32_t* coords, const int32_t* rows, const int32_t* numbers,
                               int64_t count, int32_t* sorted, int64_t* order) {
  const int64_t place = GlobalThread();
  if (place >= count) return;
  const int64_t number = numbers[place];
  if (place > 0 && numbers[place - 1] == number) return;
  const int64_t row = rows[place];
  order[number - 1] = row;
#pragma unroll
  for (int c = 0; c < kColumns; ++c) {
    sorted[(number - 1) * kColumns + c] = coords[row * kColumns + c];
  }
}

void CheckAgainst(CoordsView coords, const SpatialShape& shape) {
  CheckSpatialShape(shape);
  cpu::CheckCoordsView("coords", coords);
  if (coords.axes != shape.axes) {
    ThrowInvalid("coords: ", coords.axes, " spatial axes, but spatial_shape ", ToString(shape),
                 " has ", shape.axes);
  }
}

// What is wrong with the sites, if anything is, before they are sorted.
SiteReport Scan(CudaContext& context, CoordsView coords, const SpatialShape& shape, uint64_t* keys,
                int32_t* rows) {
  const Scratch<SiteReport> report(context, 1);
  ScanSites(context, coords, shape, report.get(), keys, rows);
  return ReadBack(context, report.get());
}

void CopyCanonical(CudaContext& context, CoordsView coords, int64_t* rank,
                   FunctionRef<SortedSites(int64_t)> allocate) {
  const SortedSites sorted = allocate(coords.rows);
  Copy(context, sorted.coords, coords.data, coords.rows * coords.columns());
  Launch(context, OneThreadEach(coords.rows), &NumberRows, coords.rows, sorted.order, rank);
}

// Sorts the rows by key and ranks them. Returns how many sites differ; numbers [rows] says for each
// sorted place how many up to it. Throws for the first duplicate unless those are welcome.
int64_t Rank(CudaContext& context, CoordsView coords, const SpatialShape& shape,
             const uint64_t* keys, const int32_t* rows, Duplicates duplicates, int32_t* sorted_rows,
             int32_t* numbers, int64_t* rank) {
  const int64_t count = coords.rows;
  const Scratch<uint64_t> sorted_keys(context, count);
  const Scratch<RankReport> report(context, 1);
  FillBytes(context, report.get(), 0x7F, 1);
  SortPairs(context, keys, sorted_keys.get(), rows, sorted_rows, count, KeyBits(shape));
  Launch(context, OneThreadEach(count), &MarkDistinct, sorted_keys.get(), count, numbers,
         report.get());
  InclusiveSum(context, numbers, numbers, count);
  Launch(context, OneThreadEach(count), &RankRows, sorted_rows, numbers, count, rank, report.get());
  const RankReport found = ReadBack(context, report.get());
  if (found.duplicate != kNone && duplicates == Duplicates::kError) {
    int32_t pair[2];
    ReadBack(context, sorted_rows + found.duplicate - 1, 2, &pair[0]);
    const std::vector<int32_t> site = ReadSite(context, coords, pair[1]);
    ThrowInvalid("coords: rows ", pair[0], " and ", pair[1], " are the same site ",
                 cpu::SiteText(site.data(), coords.columns()));
  }
  return found.distinct;
}

}  // namespace
}  // namespace cuda

template <>
bool IsCanonical<Device::kCuda>(CudaContext& context, CoordsView coords,
                                const SpatialShape& shape) {
  cuda::CheckAgainst(coords, shape);
  const cuda::SiteReport report = cuda::Scan(context, coords, shape, nullptr, nullptr);
  cuda::CheckInside(context, coords, shape, report);
  return report.unordered == cuda::kNone;
}

template <>
void CheckCanonical<Device::kCuda>(CudaContext& context, CoordsView coords,
                                   const SpatialShape& shape) {
  cuda::CheckAgainst(coords, shape);
  const cuda::SiteReport report = cuda::Scan(context, coords, shape, nullptr, nullptr);
  cuda::CheckCanonical(context, coords, shape, report);
}

template <>
void SortSites<Device::kCuda>(CudaContext& context, CoordsView coords, const SpatialShape& shape,
                              Duplicates duplicates, int64_t* rank,
                              FunctionRef<SortedSites(int64_t)> allocate) {
  cuda::CheckAgainst(coords, shape);
  const cuda::Scratch<uint64_t> keys(context, coords.rows);
  const cuda::Scratch<int32_t> rows(context, coords.rows);
  const cuda::SiteReport report = cuda::Scan(context, coords, shape, keys.get(), rows.get());
  cuda::CheckInside(context, coords, shape, report);
  if (report.unordered == cuda::kNone) {
    return cuda::CopyCanonical(context, coords, rank, allocate);
  }
  const cuda::Scratch<int32_t> sorted_rows(context, coords.rows);
  const cuda::Scratch<int32_t> numbers(context, coords.rows);
  const int64_t distinct = cuda::Rank(context, coords, shape, keys.get(), rows.get(), duplicates,
                                      sorted_rows.get(), numbers.get(), rank);
  const SortedSites sorted = allocate(distinct);
  WithColumns(coords.columns(), [&](auto columns) {
    cuda::Launch(context, cuda::OneThreadEach(coords.rows), &cuda::GatherDistinct<columns>,
                 coords.data, sorted_rows.get(), numbers.get(), coords.rows, sorted.coords,
                 sorted.order);
  });
}

}  // namespace rulebook
