// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#include "site_trie.h"

#include "coords_text.h"

namespace rulebook::cpu {
namespace {

// Unrolled over the columns: building the trie is one pass over rows of a few ints.
template <int kAxes>
void AddRows(CoordsView coords, const SpatialShape& shape, SiteTrie& trie) {
  int32_t limit[kAxes + 1] = {static_cast<int32_t>(kMaxBatchSize)};
  for (int axis = 0; axis < kAxes; ++axis) limit[axis + 1] = static_cast<int32_t>(shape[axis]);
  int32_t* leaves = trie[kAxes].coord.data();
  for (int64_t row = 0; row < coords.rows; ++row) {
    const int32_t* site = coords.data + row * (kAxes + 1);
    bool in_range = true;
    for (int c = 0; c <= kAxes; ++c) {
      in_range &= static_cast<uint32_t>(site[c]) < static_cast<uint32_t>(limit[c]);
    }
    if (!in_range) ThrowOutside("coords", coords, row, kMaxBatchSize, shape);
    leaves[row] = site[kAxes];
    int level = 0;  // the first at which this row starts a new node
    if (row > 0) {
      const int32_t* before = site - (kAxes + 1);
      while (level < kAxes && site[level] == before[level]) ++level;
      if (site[level] <= before[level]) ThrowUnordered("coords", coords, row);
    }
    for (; level < kAxes; ++level) {
      TrieLevel& below = trie[static_cast<size_t>(level) + 1];
      const int64_t children = level + 1 == kAxes ? row : below.nodes();
      trie[static_cast<size_t>(level)].coord.push_back(site[level]);
      below.begin.push_back(static_cast<int32_t>(children));
    }
  }
}

}  // namespace

SiteTrie BuildTrie(CoordsView coords, const SpatialShape& shape) {
  CheckSpatialShape(shape);
  if (shape.axes != coords.axes) {
    ThrowInvalid("coords: ", coords.axes, " spatial axes, but spatial_shape ", ToString(shape),
                 " has ", shape.axes);
  }
  CheckCoordsView("coords", coords);
  const int last = coords.axes;
  SiteTrie trie(static_cast<size_t>(last) + 1);
  trie.back().coord.resize(static_cast<size_t>(coords.rows));
  trie[0].begin.push_back(0);
  switch (last) {
    case 1:
      AddRows<1>(coords, shape, trie);
      break;
    case 2:
      AddRows<2>(coords, shape, trie);
      break;
    case 3:
      AddRows<3>(coords, shape, trie);
      break;
    default:
      AddRows<4>(coords, shape, trie);
      break;
  }
  for (auto& level : trie) level.begin.push_back(static_cast<int32_t>(level.nodes()));
  return trie;
}

}  // namespace rulebook::cpu
