// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#include "site_trie.h"

#include <string>

namespace rulebook::cpu {
namespace {

std::string RowText(CoordsView coords, int64_t row) {
  std::string text = "[";
  for (int c = 0; c <= coords.axes; ++c) {
    text += (c ? ", " : "") + std::to_string(coords.row(row)[c]);
  }
  return text + "]";
}

void CheckInRange(CoordsView coords, int64_t row, const SpatialShape& shape) {
  const int32_t* site = coords.row(row);
  if (site[0] < 0 || site[0] >= kMaxBatchSize) {
    ThrowInvalid("coords: row ", row, " has batch index ", site[0], ", must be in [0, ",
                 kMaxBatchSize, ")");
  }
  for (int axis = 0; axis < coords.axes; ++axis) {
    if (site[1 + axis] < 0 || site[1 + axis] >= shape[axis]) {
      ThrowInvalid("coords: row ", row, " is ", RowText(coords, row), ", outside spatial_shape ",
                   ToString(shape), " on axis ", axis);
    }
  }
}

[[noreturn]] void ThrowNotCanonical(CoordsView coords, int64_t row) {
  ThrowInvalid("coords: row ", row, " ", RowText(coords, row), " does not come after row ", row - 1,
               " ", RowText(coords, row - 1),
               "; sites must be sorted and unique (SortSites makes them so)");
}

// The first column in which a row differs from the one before it, 0 for row 0; checks the order.
int FirstNewColumn(CoordsView coords, int64_t row) {
  if (row == 0) return 0;
  const int32_t* site = coords.row(row);
  const int32_t* before = coords.row(row - 1);
  int column = 0;
  while (column < coords.axes && site[column] == before[column]) ++column;
  if (site[column] <= before[column]) ThrowNotCanonical(coords, row);
  return column;
}

}  // namespace

SiteTrie BuildTrie(CoordsView coords, const SpatialShape& shape) {
  CheckSpatialShape(shape);
  if (shape.axes != coords.axes) {
    ThrowInvalid("coords: ", coords.axes, " spatial axes, but spatial_shape ", ToString(shape),
                 " has ", shape.axes);
  }
  if (coords.rows > kMaxSites) {
    ThrowTooLarge("coords: ", coords.rows, " sites, the limit is ", kMaxSites);
  }
  const int last = coords.axes;
  SiteTrie trie(static_cast<size_t>(last) + 1);
  trie.back().coord.resize(static_cast<size_t>(coords.rows));
  trie[0].begin.push_back(0);
  for (int64_t row = 0; row < coords.rows; ++row) {
    const int32_t* site = coords.row(row);
    CheckInRange(coords, row, shape);
    trie.back().coord[static_cast<size_t>(row)] = site[last];
    for (int level = FirstNewColumn(coords, row); level < last; ++level) {
      const auto depth = static_cast<size_t>(level);
      const int64_t children = level + 1 == last ? row : trie[depth + 1].nodes();
      trie[depth].coord.push_back(site[level]);
      trie[depth + 1].begin.push_back(static_cast<int32_t>(children));
    }
  }
  for (auto& level : trie) level.begin.push_back(static_cast<int32_t>(level.nodes()));
  return trie;
}

}  // namespace rulebook::cpu
