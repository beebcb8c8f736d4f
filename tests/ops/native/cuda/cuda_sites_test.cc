// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <optional>
#include <vector>

#include "check.h"
#include "device_support.h"
#include "rulebook/coords.h"
#include "rulebook/intake.h"

using rulebook::CudaContext;
using rulebook::Duplicates;
using rulebook::SpatialShape;
using support::Axes;
using support::Coords;
using support::DeviceArray;
using support::DeviceCoords;
using support::kCuda;

namespace {

support::Sorted SortOnDevice(CudaContext& context, const Coords& coords, const SpatialShape& shape,
                             Duplicates duplicates) {
  const DeviceCoords input(context, coords);
  const DeviceArray<int64_t> rank(context, coords.rows());
  std::optional<DeviceArray<int32_t>> sorted;
  std::optional<DeviceArray<int64_t>> order;
  rulebook::SortSites<kCuda>(context, input.view(), shape, duplicates, rank.get(),
                             [&](int64_t rows) {
                               sorted.emplace(context, rows * (coords.axes + 1));
                               order.emplace(context, rows);
                               return rulebook::SortedSites{sorted->get(), order->get()};
                             });
  return {{coords.axes, sorted->Read()}, order->Read(), rank.Read()};
}

void CheckSort(const Coords& coords, const SpatialShape& shape, Duplicates duplicates) {
  const auto pool = rulebook::MakeThreadPool(1);
  const support::Sorted expected = support::Sort(*pool, coords, shape, duplicates);
  support::OnDevices([&](CudaContext& context) {
    const support::Sorted sorted = SortOnDevice(context, coords, shape, duplicates);
    CHECK(sorted.coords == expected.coords);
    CHECK(sorted.order == expected.order);
    CHECK(sorted.rank == expected.rank);
  });
}

// The sites in another order, every `repeat`-th of them twice.
Coords Shuffled(const Coords& coords, int64_t repeat, uint64_t seed) {
  support::Random random(seed);
  std::vector<int64_t> rows;
  for (int64_t row = 0; row < coords.rows(); ++row) {
    rows.push_back(row);
    if (repeat > 0 && row % repeat == 0) rows.push_back(row);
  }
  for (size_t i = rows.size(); i > 1; --i) {
    std::swap(rows[i - 1], rows[static_cast<size_t>(random.Below(static_cast<int64_t>(i)))]);
  }
  Coords shuffled{coords.axes, {}};
  for (const int64_t row : rows) {
    const int32_t* site = coords.view().row(row);
    shuffled.values.insert(shuffled.values.end(), site, site + coords.axes + 1);
  }
  return shuffled;
}

}  // namespace

TEST(SortsLikeTheCpu) {
  for (const support::SiteCase& c : support::SiteCases()) {
    CheckSort(c.coords, c.shape, Duplicates::kError);
    CheckSort(Shuffled(c.coords, 0, 5), c.shape, Duplicates::kError);
    CheckSort(Shuffled(c.coords, 3, 6), c.shape, Duplicates::kFirst);
  }
}

TEST(KeysOfSixtyThreeBits) {
  // 2^16 batch indices on 2^47 - 2 cells.
  const SpatialShape shape = Axes({2147483647, 65535});
  const Coords coords{
      2, {65535, 2147483646, 65534, 32770, 0, 0, 0, 0, 1, 30000, 0, 0, 65535, 0, 0, 0, 0, 0}};
  CheckSort(coords, shape, Duplicates::kError);
}

TEST(SitesThatCannotBeSorted) {
  const SpatialShape shape = Axes({5, 6});
  const auto check = [&](const Coords& coords) {
    support::CheckSameError(
        [&](rulebook::CpuContext& pool) { support::Sort(pool, coords, shape); },
        [&](CudaContext& context) { SortOnDevice(context, coords, shape, Duplicates::kError); });
  };
  check({2, {0, 1, 1, 0, 5, 0, 0, -1, 0}});
  check({2, {0, 1, 1, -1, 0, 0}});
  check({2, {65536, 1, 1}});
  check({2, {0, 2, 2, 0, 1, 1, 0, 3, 3, 0, 1, 1, 0, 2, 2}});
  check({3, {0, 1, 1, 1}});
}

TEST(ChecksCanonicalOrder) {
  const SpatialShape shape = Axes({5, 6});
  const auto check = [&](const Coords& coords) {
    support::CheckSameError(
        [&](rulebook::CpuContext& pool) {
          rulebook::CheckCanonical<support::kCpu>(pool, coords.view(), shape);
        },
        [&](CudaContext& context) {
          const DeviceCoords sites(context, coords);
          rulebook::CheckCanonical<kCuda>(context, sites.view(), shape);
        });
  };
  check({2, {0, 1, 1, 0, 1, 1}});
  check({2, {0, 1, 2, 0, 1, 1, 0, 7, 0}});
  check({2, {0, 1, 1, 0, 7, 0, 0, 1, 0}});
  support::OnDevices([&](CudaContext& context) {
    const DeviceCoords canonical(context, {2, {0, 1, 1, 0, 1, 2, 1, 0, 0}});
    rulebook::CheckCanonical<kCuda>(context, canonical.view(), shape);
    CHECK(rulebook::IsCanonical<kCuda>(context, canonical.view(), shape));
    const DeviceCoords other(context, {2, {0, 1, 2, 0, 1, 1}});
    CHECK(!rulebook::IsCanonical<kCuda>(context, other.view(), shape));
  });
}
