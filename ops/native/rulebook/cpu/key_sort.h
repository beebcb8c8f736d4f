// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "rulebook/context.h"

namespace rulebook::cpu {

struct KeyIndex {
  uint64_t key;
  int64_t index;
};

// Sorts by key, keeping the order of equal keys. No key may pass max_key; the smaller it is, the
// fewer passes are made.
void SortByKey(CpuContext& context, std::vector<KeyIndex>& items, uint64_t max_key);

}  // namespace rulebook::cpu
