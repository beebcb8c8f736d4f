// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// Canonical sites as a trie. Because rows are sorted lexicographically, the distinct prefixes of
// every length are runs of rows: level 0 holds the batch indices, level d the prefixes that end
// with axis d-1, and the last level has one node a row. A rulebook is found by walking two tries
// down side by side, one axis a level, so no site is ever hashed or searched for.
#pragma once

#include <cstdint>
#include <vector>

#include "rulebook/coords.h"

namespace rulebook::cpu {

struct TrieLevel {
  std::vector<int32_t> coord;  // [nodes]: the prefix's last coordinate
  std::vector<int32_t> begin;  // [parents + 1]: a parent's children are nodes [begin, begin')

  int64_t nodes() const { return static_cast<int64_t>(coord.size()); }
  int64_t parents() const { return static_cast<int64_t>(begin.size()) - 1; }
};

using SiteTrie = std::vector<TrieLevel>;  // [1 + axes]

// Throws InvalidArgument naming the first row that is out of order, repeated or out of range.
SiteTrie BuildTrie(CoordsView coords, const SpatialShape& shape);

}  // namespace rulebook::cpu
