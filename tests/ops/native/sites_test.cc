// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// Canonical order and site look-up against std::map, at sizes around every change of method: the
// small comparison sort, one radix block, several blocks, keys that leave no room for an index.
#include <algorithm>
#include <map>
#include <vector>

#include "check.h"
#include "rulebook/error.h"
#include "support.h"

using rulebook::Error;
using support::Axes;
using support::Coords;
using support::kCpu;

namespace {

using Row = std::vector<int32_t>;

Row RowOf(const Coords& coords, int64_t i) {
  const int32_t* row = coords.view().row(i);
  return Row(row, row + coords.axes + 1);
}

// Batch index 1 is left empty, and sites repeat where the grid is small.
Coords RandomRows(const rulebook::SpatialShape& shape, int64_t rows, uint64_t seed) {
  support::Random random(seed);
  Coords coords{shape.axes, {}};
  for (int64_t i = 0; i < rows; ++i) {
    coords.values.push_back(static_cast<int32_t>(2 * random.Below(2)));
    for (int axis = 0; axis < shape.axes; ++axis) {
      coords.values.push_back(static_cast<int32_t>(random.Below(shape[axis])));
    }
  }
  return coords;
}

std::vector<int32_t> Find(rulebook::CpuContext& context, const Coords& coords,
                          const Coords& query) {
  std::vector<int32_t> row(static_cast<size_t>(query.rows()), -7);
  rulebook::FindSites<kCpu>(context, coords.view(), query.view(), row.data());
  return row;
}

void CheckSorted(rulebook::CpuContext& context, const Coords& input,
                 const rulebook::SpatialShape& shape) {
  std::map<Row, int64_t> first;
  for (int64_t i = 0; i < input.rows(); ++i) first.emplace(RowOf(input, i), i);
  const auto sorted = support::Sort(context, input, shape, rulebook::Duplicates::kFirst);
  CHECK_EQ(sorted.coords.rows(), static_cast<int64_t>(first.size()));
  int64_t j = 0;
  for (const auto& [row, index] : first) {
    CHECK(RowOf(sorted.coords, j) == row);
    CHECK_EQ(sorted.order[static_cast<size_t>(j)], index);
    ++j;
  }
  for (int64_t i = 0; i < input.rows(); ++i) {
    CHECK(RowOf(sorted.coords, sorted.rank[static_cast<size_t>(i)]) == RowOf(input, i));
  }
  const auto again = support::Sort(context, sorted.coords, shape);
  CHECK(again.coords == sorted.coords);
  CHECK(std::is_sorted(again.rank.begin(), again.rank.end()));
}

}  // namespace

TEST(SortedSitesAreCanonicalAndMapBothWays) {
  for (const auto& shape : {Axes({100000}), Axes({30, 40}), Axes({41, 1600, 1408}),
                            Axes({9, 10, 11, 12}), Axes({1, 1, 1}), Axes({2147483647, 65535})}) {
    for (const int64_t rows : {0, 1, 2, 19, 512, 513, 989, 40000}) {
      const Coords input = RandomRows(shape, rows, static_cast<uint64_t>(rows) + 3);
      for (const int threads : {1, 3}) {
        CheckSorted(*rulebook::MakeThreadPool(threads), input, shape);
      }
    }
  }
}

TEST(TheLargestGridSortsByAllItsBits) {
  const int32_t last = 2147483646;
  const auto shape = Axes({2147483647, 65535});
  const Coords input{2, {65535, last, 65534, 0, 0, 0, 65535, 0, 65534, 0, last, 0}};
  const auto pool = rulebook::MakeThreadPool(2);
  const auto sorted = support::Sort(*pool, input, shape);
  CHECK(sorted.coords.values ==
        (std::vector<int32_t>{0, 0, 0, 0, last, 0, 65535, 0, 65534, 65535, last, 65534}));
}

TEST(ADuplicateIsNamedWithBothItsRows) {
  const auto pool = rulebook::MakeThreadPool(1);
  const Coords input{2, {0, 3, 1, 0, 1, 1, 0, 3, 1}};
  CHECK_THROWS(Error, "rows 0 and 2 are the same site (0, 3, 1)",
               support::Sort(*pool, input, Axes({4, 4})));
}

TEST(TheFirstBadRowIsNamedWhateverTheThreads) {
  const auto pool = rulebook::MakeThreadPool(4);
  const auto shape = Axes({41, 1600, 1408});
  Coords input = RandomRows(shape, 60000, 8);
  for (const size_t row : {size_t{59999}, size_t{30000}, size_t{8192}}) {
    input.values[row * 4 + 2] = 1600;
    CHECK_THROWS(Error, "row " + std::to_string(row) + " ", support::Sort(*pool, input, shape));
  }
}

TEST(SitesAreFoundInAnyOrderAndStrangersNowhere) {
  const auto shape = Axes({20, 50, 60});
  const Coords coords = support::RandomSites(3, shape, 4, 12);
  std::map<Row, int32_t> rows;
  for (int64_t i = 0; i < coords.rows(); ++i) rows[RowOf(coords, i)] = static_cast<int32_t>(i);
  Coords query = RandomRows(shape, 20000, 13);
  query.values.insert(query.values.end(), coords.values.begin(), coords.values.end());
  for (const int32_t odd : {-1, 2147483647, -2147483647 - 1, 60}) {
    query.values.insert(query.values.end(), {odd, 0, 0, 0, 0, odd, 0, 0, 0, 0, 0, odd});
  }
  for (const int threads : {1, 3}) {
    const auto row = Find(*rulebook::MakeThreadPool(threads), coords, query);
    for (int64_t i = 0; i < query.rows(); ++i) {
      const auto found = rows.find(RowOf(query, i));
      CHECK_EQ(row[static_cast<size_t>(i)], found == rows.end() ? -1 : found->second);
    }
  }
}

TEST(NothingIsFoundAmongNoSites) {
  const auto pool = rulebook::MakeThreadPool(2);
  CHECK(Find(*pool, Coords{2, {}}, Coords{2, {0, 0, 0, 5, -5, 5}}) ==
        (std::vector<int32_t>{-1, -1}));
  CHECK(Find(*pool, Coords{2, {0, 0, 0}}, Coords{2, {}}).empty());
}

TEST(SitesThatAreNotCanonicalCannotBeSearched) {
  const auto pool = rulebook::MakeThreadPool(1);
  const Coords query{1, {0, 0}};
  CHECK_THROWS(Error, "row 1 (0, 2)", Find(*pool, Coords{1, {0, 3, 0, 2}}, query));
  CHECK_THROWS(Error, "same site (0, 3)", Find(*pool, Coords{1, {0, 3, 0, 3}}, query));
}
