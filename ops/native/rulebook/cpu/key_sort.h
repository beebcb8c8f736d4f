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

// A key and an index in one word, the key in the upper bits: half of what a KeyIndex moves.
class KeyWords {
 public:
  // Whether keys up to max_key and indices below `count` share a word.
  static bool Fit(uint64_t max_key, int64_t count);

  explicit KeyWords(int64_t count);

  uint64_t Pack(uint64_t key, int64_t index) const {
    return key << index_bits_ | static_cast<uint64_t>(index);
  }
  uint64_t key(uint64_t word) const { return word >> index_bits_; }
  int64_t index(uint64_t word) const {
    return static_cast<int64_t>(word & ((uint64_t{1} << index_bits_) - 1));
  }

  // As SortByKey.
  void Sort(CpuContext& context, std::vector<uint64_t>& words, uint64_t max_key) const;

 private:
  int index_bits_;
};

}  // namespace rulebook::cpu
