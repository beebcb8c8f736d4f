// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "rulebook/coords.h"
#include "site_key.h"

namespace rulebook::cpu {

// The packed keys of canonical sites, for looking sites up.
class SiteIndex {
 public:
  // Throws InvalidArgument when coords are not sorted and unique, or span more than 64 bits.
  SiteIndex(CpuContext& context, CoordsView coords);

  int64_t sites() const { return static_cast<int64_t>(keys_.size()); }
  const KeyBox& box() const { return box_; }

  // The row that holds `key`, or -1. `hint` is where the search begins, any value in [0, sites()],
  // and is left at the key's place: a search near the last one is short.
  int64_t Find(uint64_t key, int64_t* hint) const {
    const int64_t place = LowerBound(key, *hint);
    *hint = place;
    return place < sites() && keys_[static_cast<size_t>(place)] == key ? place : -1;
  }

  // The first row whose key is not below `key`; sites() if none.
  int64_t LowerBound(uint64_t key, int64_t hint) const;

 private:
  KeyBox box_;
  std::vector<uint64_t> keys_;
};

// The smallest box that holds all rows of both views (equal axes; either may be empty).
KeyBox BoundingBox(CpuContext& context, CoordsView a, CoordsView b);

// Packs every row into `keys` [rows]; all lie in the box. Throws InvalidArgument naming `what`
// unless keys ascend strictly.
void PackCanonical(CpuContext& context, CoordsView coords, const KeyBox& box, const char* what,
                   uint64_t* keys);

}  // namespace rulebook::cpu
