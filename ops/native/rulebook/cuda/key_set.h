// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// The different ones among many keys, in no order: a hash set that lists and counts what it gets.
#pragma once

#include "device.h"
#include "site_table.h"

namespace rulebook::cuda {

// What kernels get.
struct KeySetView {
  uint64_t* places;  // kFree or a key
  uint64_t mask;     // places - 1; places are a power of two
  uint64_t* keys;    // [limit]: the list
  int64_t limit;
  int64_t* count;  // of the different keys; past the limit it only says that they are too many
};

// Whether the key is new. In a full set, which holds more than the limit, none is found to be old.
__device__ inline bool InsertKey(const KeySetView& set, uint64_t key) {
  uint64_t place = HashKey(key) & set.mask;
  for (uint64_t probes = 0; probes <= set.mask; ++probes, place = (place + 1) & set.mask) {
    uint64_t before = LoadVolatile(&set.places[place]);
    if (before == SiteTableView::kFree) {
      before = AtomicCompareExchange(&set.places[place], SiteTableView::kFree, key);
      if (before == SiteTableView::kFree) return true;
    }
    if (before == key) return false;
  }
  return true;
}

// Adds the keys of a warp's lanes that have one. All 32 lanes call it.
__device__ inline void AddKeys(const KeySetView& set, bool has_key, uint64_t key) {
  constexpr unsigned kAll = 0xFFFFFFFFU;
  // Once there are too many, more of them only cost time.
  const bool open = has_key && LoadVolatile(set.count) <= set.limit;
  const bool is_new = open && InsertKey(set, key);
  const unsigned news = __ballot_sync(kAll, is_new ? 1 : 0);
  if (news == 0) return;
  const unsigned lane = threadIdx.x % kWarpSize;
  int64_t first = 0;
  if (lane == 0) first = AtomicAdd(set.count, static_cast<int64_t>(__popc(news)));
  first = __shfl_sync(kAll, first, 0);
  const int64_t number = first + __popc(news & ((1U << lane) - 1U));
  if (is_new && number < set.limit) set.keys[number] = key;
}

// An empty set for up to `limit` of `candidates` keys. The count is the caller's, and 0.
class KeySet {
 public:
  KeySet(CudaContext& context, int64_t candidates, int64_t limit, int64_t* count)
      : limit_(std::min(candidates, limit)),
        places_(PlacesFor(std::min(candidates, limit + kThreadsAtOnce))),
        place_keys_(context, static_cast<int64_t>(places_)),
        keys_(context, limit_),
        count_(count) {
    FillBytes(context, place_keys_.get(), 0xFF, static_cast<int64_t>(places_));
  }

  KeySetView view() const { return {place_keys_.get(), places_ - 1, keys_.get(), limit_, count_}; }
  const uint64_t* keys() const { return keys_.get(); }

 private:
  // More than any GPU has under way: so many may insert before they see that the limit is passed.
  static constexpr int64_t kThreadsAtOnce = int64_t{1} << 19;

  int64_t limit_;
  uint64_t places_;
  Scratch<uint64_t> place_keys_;
  Scratch<uint64_t> keys_;
  int64_t* count_;
};

}  // namespace rulebook::cuda
