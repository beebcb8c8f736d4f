// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace rulebook::cpu {

// For every row v of [0, rows): the p with row[p] == v, ascending.
struct RowGroups {
  std::vector<int32_t> begin;  // [rows + 1]
  std::vector<int32_t> order;  // the p of row v are order[begin[v]] … order[begin[v + 1] - 1]

  int64_t size(int64_t v) const {
    return begin[static_cast<size_t>(v) + 1] - begin[static_cast<size_t>(v)];
  }
  const int32_t* members(int64_t v) const { return order.data() + begin[static_cast<size_t>(v)]; }
};

// -1 belongs to no group; throws InvalidArgument for a value outside [-1, rows) and
// ResourceExhausted when a count passes kMaxSites.
RowGroups GroupByRow(const int32_t* row, int64_t count, int64_t rows);

}  // namespace rulebook::cpu
