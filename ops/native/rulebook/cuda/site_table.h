// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// From a site's key to its row: a hash table in device memory, open addressing, probed one by one.
#pragma once

#include "device.h"
#include "grid_key.h"
#include "rulebook/coords.h"

namespace rulebook::cuda {

// What kernels get. Half of the places at least are free, so every search ends.
struct SiteTableView {
  static constexpr uint64_t kFree = ~uint64_t{0};  // no key: keys have 63 bits

  uint64_t* keys;
  uint32_t* rows;  // all bits set, above every row, where the key is kFree
  uint64_t mask;   // places - 1; places are a power of two
};

// splitmix64's last steps (Steele, Lea, Flood 2014): neighbours must not hash to neighbours.
__device__ inline uint64_t HashKey(uint64_t key) {
  key = (key ^ (key >> 30U)) * 0xBF58476D1CE4E5B9U;
  key = (key ^ (key >> 27U)) * 0x94D049BB133111EBU;
  return key ^ (key >> 31U);
}

// Twice the entries at least, so that half of the places stay free.
inline uint64_t PlacesFor(int64_t entries) {
  uint64_t places = 64;
  while (places < 2 * static_cast<uint64_t>(entries)) places *= 2;
  return places;
}

// Of several rows with one key the lowest stays.
__device__ inline void Insert(const SiteTableView& table, uint64_t key, int32_t row) {
  for (uint64_t place = HashKey(key) & table.mask;; place = (place + 1) & table.mask) {
    const uint64_t before = AtomicCompareExchange(&table.keys[place], SiteTableView::kFree, key);
    if (before != SiteTableView::kFree && before != key) continue;
    AtomicMin(&table.rows[place], static_cast<uint32_t>(row));
    return;
  }
}

// The row, or -1. Not in the kernel that inserts.
__device__ inline int32_t Find(const SiteTableView& table, uint64_t key) {
  for (uint64_t place = HashKey(key) & table.mask;; place = (place + 1) & table.mask) {
    const uint64_t found = table.keys[place];
    if (found == key) return static_cast<int32_t>(table.rows[place]);
    if (found == SiteTableView::kFree) return -1;
  }
}

// The table of `coords`; rows outside the grid are left out.
class SiteTable {
 public:
  SiteTable(CudaContext& context, CoordsView coords, const KeyGrid& grid);

  SiteTableView view() const {
    return {memory_.get(), reinterpret_cast<uint32_t*>(memory_.get() + places_), places_ - 1};
  }

 private:
  uint64_t places_;
  Scratch<uint64_t> memory_;  // the keys, then the rows: one fill frees all places
};

}  // namespace rulebook::cuda
