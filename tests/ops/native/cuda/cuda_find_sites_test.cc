// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#include <limits>
#include <vector>

#include "check.h"
#include "device_support.h"
#include "rulebook/coords.h"

using rulebook::CudaContext;
using support::Coords;
using support::DeviceArray;
using support::DeviceCoords;
using support::kCuda;

namespace {

std::vector<int32_t> FindOnCpu(rulebook::CpuContext& context, const Coords& coords,
                               const Coords& query) {
  std::vector<int32_t> row(static_cast<size_t>(query.rows()));
  rulebook::FindSites<support::kCpu>(context, coords.view(), query.view(), row.data());
  return row;
}

std::vector<int32_t> FindOnDevice(CudaContext& context, const Coords& coords, const Coords& query) {
  const DeviceCoords sites(context, coords);
  const DeviceCoords wanted(context, query);
  const DeviceArray<int32_t> row(context, query.rows());
  rulebook::FindSites<kCuda>(context, sites.view(), wanted.view(), row.get());
  return row.Read();
}

void CheckFind(const Coords& coords, const Coords& query) {
  const auto pool = rulebook::MakeThreadPool(1);
  const std::vector<int32_t> expected = FindOnCpu(*pool, coords, query);
  support::OnDevices(
      [&](CudaContext& context) { CHECK(FindOnDevice(context, coords, query) == expected); });
}

// Sites, sites one cell beside them and rows of no grid, in no order.
Coords Queries(const Coords& coords, int64_t count) {
  support::Random random(11);
  Coords query{coords.axes, {}};
  for (int64_t p = 0; p < count; ++p) {
    std::vector<int32_t> site(static_cast<size_t>(coords.axes) + 1, 0);
    if (coords.rows() > 0) {
      const int32_t* row = coords.view().row(random.Below(coords.rows()));
      site.assign(row, row + coords.axes + 1);
    }
    const auto c = static_cast<size_t>(random.Below(coords.axes + 1));
    const int32_t others[] = {site[c] ^ 1, std::numeric_limits<int32_t>::min(),
                              std::numeric_limits<int32_t>::max(), -1};
    if (p % 2 == 0) site[c] = others[random.Below(p % 4 == 0 ? 1 : 4)];
    query.values.insert(query.values.end(), site.begin(), site.end());
  }
  return query;
}

}  // namespace

TEST(FindsLikeTheCpu) {
  for (const support::SiteCase& c : support::SiteCases()) {
    CheckFind(c.coords, c.coords);
    CheckFind(c.coords, Queries(c.coords, 700));
    CheckFind(c.coords, {c.coords.axes, {}});
  }
}

TEST(SitesOfNoGrid) {
  const Coords coords{1, {-2147483647, 5, -3, -2147483647, 0, 0, 0, 2147483647, 70000, -1}};
  CheckFind(coords, coords);
  CheckFind(coords, Queries(coords, 100));
}

TEST(RefusesWhatTheCpuRefuses) {
  const auto check = [](const Coords& coords, const Coords& query) {
    support::CheckSameError([&](rulebook::CpuContext& pool) { FindOnCpu(pool, coords, query); },
                            [&](CudaContext& context) { FindOnDevice(context, coords, query); });
  };
  check({2, {0, 1, 1}}, {1, {0, 1}});
  check({5, {0, 1, 1, 1, 1, 1}}, {5, {0, 1, 1, 1, 1, 1}});
}
