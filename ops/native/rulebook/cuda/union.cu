// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// The union of two canonical lists of sites: every row searches the other side, which tells where
// it goes. One read-back, of the number of sites and of rows out of order.
#include <vector>

#include "columns.h"
#include "device.h"
#include "element.h"
#include "row_lanes.h"
#include "rulebook/union.h"
#include "site_search.h"
#include "union_input.h"

namespace rulebook {
namespace cuda {
namespace {

constexpr int64_t kNone = 0x7F7F7F7F7F7F7F7F;  // above every row

struct Report {
  int64_t unordered[2];  // of each side, the lowest row that is not above the one before, or kNone
  int64_t pairs;         // kNone + the sites that are on both sides: one fill starts all three
};

// For every row of one side: how many rows of the other come before it and whether one is equal.
template <int kColumns>
__global__ void SearchOther(const int32_t* coords, int64_t rows, const int32_t* other,
                            int64_t other_rows, int side, Report* report, int32_t* before,
                            int32_t* paired) {
  const int64_t row = GlobalThread();
  bool found = false;
  if (row < rows) {
    const int32_t* site = coords + row * kColumns;
    if (row > 0 && CompareSites<kColumns>(site - kColumns, site) >= 0) {
      AtomicMin(&report->unordered[side], row);
    }
    const int64_t low = LowerBound<kColumns>(other, other_rows, site);
    found = IsSite<kColumns>(other, other_rows, low, site);
    before[row] = static_cast<int32_t>(low);
    paired[row] = found ? 1 : 0;
  }
  const int pairs = __syncthreads_count(found ? 1 : 0);
  if (side == 0 && threadIdx.x == 0 && pairs > 0) AtomicAdd(&report->pairs, int64_t{pairs});
}

// How many of the first `rows` rows of a side are paired; sums [rows of the side].
__device__ inline int64_t PairsBefore(const int32_t* sums, int64_t rows) {
  return rows > 0 ? sums[rows - 1] : 0;
}

template <typename T>
struct Features {
  const T* data;
  int64_t channels;
};

__device__ inline void CopySite(const int32_t* from, int64_t columns, RowLanes lanes, int32_t* to) {
  for (int64_t c = LaneFirst(lanes); c < columns; c += LaneStep(lanes)) to[c] = from[c];
}

// The rows of a, with those of b that have the same site.
template <typename T>
__global__ void WriteA(const int32_t* coords, int64_t columns, int64_t rows, const int32_t* before,
                       const int32_t* sums, Features<T> a, Features<T> b, UnionMode mode,
                       RowLanes lanes, int32_t* out_coords, T* out) {
  const int64_t i = LaneRow(lanes);
  if (i >= rows) return;
  const int64_t j = before[i];
  const bool paired = PairsBefore(sums, i + 1) != PairsBefore(sums, i);
  const int64_t row = i + j - PairsBefore(sums, i);
  CopySite(coords + i * columns, columns, lanes, out_coords + row * columns);
  const int64_t channels = mode == UnionMode::kSum ? a.channels : a.channels + b.channels;
  for (int64_t c = LaneFirst(lanes); c < channels; c += LaneStep(lanes)) {
    T value = FromFloat<T>(0.0F);
    if (c < a.channels) {
      value = a.data[i * a.channels + c];
      if (mode == UnionMode::kSum && paired) {
        value = FromFloat<T>(ToFloat(value) + ToFloat(b.data[j * b.channels + c]));
      }
    } else if (paired) {
      value = b.data[j * b.channels + c - a.channels];
    }
    out[row * channels + c] = value;
  }
}

// The rows of b whose sites a has not; sums are a's.
template <typename T>
__global__ void WriteB(const int32_t* coords, int64_t columns, int64_t rows, const int32_t* before,
                       const int32_t* paired, const int32_t* sums, int64_t channels_a,
                       Features<T> b, UnionMode mode, RowLanes lanes, int32_t* out_coords, T* out) {
  const int64_t j = LaneRow(lanes);
  if (j >= rows || paired[j] != 0) return;
  const int64_t row = j + before[j] - PairsBefore(sums, before[j]);
  CopySite(coords + j * columns, columns, lanes, out_coords + row * columns);
  const int64_t skipped = mode == UnionMode::kSum ? 0 : channels_a;
  const int64_t channels = skipped + b.channels;
  for (int64_t c = LaneFirst(lanes); c < channels; c += LaneStep(lanes)) {
    out[row * channels + c] =
        c < skipped ? FromFloat<T>(0.0F) : b.data[j * b.channels + c - skipped];
  }
}

void CheckOrdered(CudaContext& context, const char* what, CoordsView coords, int64_t row) {
  if (row == kNone) return;
  const int64_t columns = coords.columns();
  std::vector<int32_t> sites(static_cast<size_t>(2 * columns));
  ReadBack(context, coords.row(row - 1), 2 * columns, sites.data());
  cpu::ThrowUnordered(what, sites.data(), sites.data() + columns, columns, row);
}

}  // namespace
}  // namespace cuda

template <Device D, typename T>
void SparseUnion(Context<D>& context, CoordsView coords_a, const T* features_a, int64_t channels_a,
                 CoordsView coords_b, const T* features_b, int64_t channels_b, UnionMode mode,
                 FunctionRef<UnionSites<T>(int64_t)> allocate) {
  cpu::CheckUnion(coords_a, channels_a, coords_b, channels_b, mode);
  const int64_t rows_a = coords_a.rows;
  const int64_t rows_b = coords_b.rows;
  const cuda::Scratch<cuda::Report> report(context, 1);
  const cuda::Scratch<int32_t> before_a(context, rows_a);
  const cuda::Scratch<int32_t> before_b(context, rows_b);
  const cuda::Scratch<int32_t> sums(context, rows_a);
  const cuda::Scratch<int32_t> paired_b(context, rows_b);
  cuda::FillBytes(context, report.get(), 0x7F, 1);
  WithColumns(coords_a.columns(), [&](auto columns) {
    cuda::Launch(context, cuda::OneThreadEach(rows_a), &cuda::SearchOther<columns>, coords_a.data,
                 rows_a, coords_b.data, rows_b, 0, report.get(), before_a.get(), sums.get());
    cuda::Launch(context, cuda::OneThreadEach(rows_b), &cuda::SearchOther<columns>, coords_b.data,
                 rows_b, coords_a.data, rows_a, 1, report.get(), before_b.get(), paired_b.get());
  });
  cuda::InclusiveSum(context, sums.get(), sums.get(), rows_a);
  const cuda::Report found = cuda::ReadBack(context, report.get());
  cuda::CheckOrdered(context, "coords_a", coords_a, found.unordered[0]);
  cuda::CheckOrdered(context, "coords_b", coords_b, found.unordered[1]);
  const int64_t total = rows_a + rows_b - (found.pairs - cuda::kNone);
  if (total > kMaxSites) {
    ThrowTooLarge("SparseUnion: ", total, " sites are over the limit ", kMaxSites);
  }
  const int64_t channels = mode == UnionMode::kSum ? channels_a : channels_a + channels_b;
  CheckedProduct(total, channels, kMaxDenseElements, "SparseUnion: sites x channels");

  using Element = cuda::Native<T>;
  const UnionSites<T> sites = allocate(total);
  const cuda::RowLanes lanes = cuda::LanesFor(channels);
  const cuda::Features<Element> a{cuda::AsNative(features_a), channels_a};
  const cuda::Features<Element> b{cuda::AsNative(features_b), channels_b};
  cuda::Launch(context, cuda::LanesForEach(rows_a, lanes), &cuda::WriteA<Element>, coords_a.data,
               coords_a.columns(), rows_a, before_a.get(), sums.get(), a, b, mode, lanes,
               sites.coords, cuda::AsNative(sites.features));
  cuda::Launch(context, cuda::LanesForEach(rows_b, lanes), &cuda::WriteB<Element>, coords_b.data,
               coords_b.columns(), rows_b, before_b.get(), paired_b.get(), sums.get(), channels_a,
               b, mode, lanes, sites.coords, cuda::AsNative(sites.features));
}

template void SparseUnion<Device::kCuda>(CudaContext&, CoordsView, const float*, int64_t,
                                         CoordsView, const float*, int64_t, UnionMode,
                                         FunctionRef<UnionSites<float>(int64_t)>);
template void SparseUnion<Device::kCuda>(CudaContext&, CoordsView, const Float16*, int64_t,
                                         CoordsView, const Float16*, int64_t, UnionMode,
                                         FunctionRef<UnionSites<Float16>(int64_t)>);
template void SparseUnion<Device::kCuda>(CudaContext&, CoordsView, const BFloat16*, int64_t,
                                         CoordsView, const BFloat16*, int64_t, UnionMode,
                                         FunctionRef<UnionSites<BFloat16>(int64_t)>);

}  // namespace rulebook
