// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#include "row_groups.h"

#include "rulebook/shape.h"

namespace rulebook::cpu {

RowGroups GroupByRow(const int32_t* row, int64_t count, int64_t rows) {
  if (count > kMaxSites) ThrowTooLarge("row: ", count, " values are over the limit ", kMaxSites);
  if (rows > kMaxSites) ThrowTooLarge("row: ", rows, " groups are over the limit ", kMaxSites);
  RowGroups groups;
  // place[v + 1] counts group v; summed, place[v] is where v starts; moved on with every p placed,
  // it ends up where v ends, which is begin[v + 1].
  groups.begin.assign(static_cast<size_t>(rows) + 2, 0);
  int32_t* place = groups.begin.data() + 1;
  int64_t kept = 0;
  for (int64_t p = 0; p < count; ++p) {
    const int64_t v = row[p];
    if (v < -1 || v >= rows) {
      ThrowInvalid("row: row[", p, "] is ", v, ", not in [-1, ", rows, ")");
    }
    if (v < 0) continue;
    ++place[v + 1];
    ++kept;
  }
  for (int64_t v = 0; v < rows; ++v) place[v + 1] += place[v];
  groups.order.resize(static_cast<size_t>(kept));
  for (int64_t p = 0; p < count; ++p) {
    if (row[p] >= 0) groups.order[static_cast<size_t>(place[row[p]]++)] = static_cast<int32_t>(p);
  }
  groups.begin.pop_back();
  return groups;
}

}  // namespace rulebook::cpu
