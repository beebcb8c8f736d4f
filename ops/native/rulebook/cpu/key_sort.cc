// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// A least-significant-digit radix sort. Each pass counts digits per block of items, turns the
// counts into where each (digit, block) begins, and moves the blocks in parallel: every item has
// one place to go, so threads never share a write and the result does not depend on them.
#include "key_sort.h"

#include <algorithm>
#include <array>

#include "parallel.h"

namespace rulebook::cpu {
namespace {

constexpr int64_t kSmall = 512;  // below this a comparison sort is faster than a pass
constexpr int64_t kMaxBlocks = 32;
constexpr int64_t kMinBlockItems = 16384;
constexpr int kMaxDigitBits = 11;
using Histogram = std::array<int64_t, size_t{1} << kMaxDigitBits>;

int BitWidth(uint64_t value) {
  int bits = 0;
  for (; value != 0; value >>= 1) ++bits;
  return bits;
}

// Replaces counts[block][digit] by the first place of that digit's items of that block. Returns
// whether all items share one digit, so that the pass would move nothing.
bool CountsToPlaces(std::vector<Histogram>& counts, size_t digits, int64_t total) {
  int64_t place = 0;
  for (size_t digit = 0; digit < digits; ++digit) {
    const int64_t begin = place;
    for (Histogram& block : counts) {
      const int64_t count = block[digit];
      block[digit] = place;
      place += count;
    }
    if (place - begin == total) return true;
  }
  return false;
}

// key_of(item) is an item's key.
template <typename Item, typename KeyOf>
void RadixSort(CpuContext& context, std::vector<Item>& items, uint64_t max_key, KeyOf key_of) {
  const int64_t total = static_cast<int64_t>(items.size());
  if (total <= kSmall) {
    std::stable_sort(items.begin(), items.end(),
                     [&](const Item& a, const Item& b) { return key_of(a) < key_of(b); });
    return;
  }
  const int bits = std::max(1, BitWidth(max_key));
  const int passes = (bits + kMaxDigitBits - 1) / kMaxDigitBits;
  const int digit_bits = (bits + passes - 1) / passes;
  const size_t digits = size_t{1} << digit_bits;
  const uint64_t mask = digits - 1;
  const int64_t block_size = std::max(kMinBlockItems, CeilDiv(total, kMaxBlocks));
  std::vector<Histogram> places(static_cast<size_t>(CeilDiv(total, block_size)));
  std::vector<Item> moved(items.size());
  for (int shift = 0; shift < bits; shift += digit_bits) {
    ForBlocks(context, total, block_size, [&](int64_t block, int64_t begin, int64_t end) {
      Histogram& counts = places[static_cast<size_t>(block)];
      std::fill_n(counts.begin(), digits, 0);
      for (int64_t i = begin; i < end; ++i) {
        ++counts[(key_of(items[static_cast<size_t>(i)]) >> shift) & mask];
      }
    });
    if (CountsToPlaces(places, digits, total)) continue;
    ForBlocks(context, total, block_size, [&](int64_t block, int64_t begin, int64_t end) {
      Histogram& place = places[static_cast<size_t>(block)];
      for (int64_t i = begin; i < end; ++i) {
        const Item item = items[static_cast<size_t>(i)];
        moved[static_cast<size_t>(place[(key_of(item) >> shift) & mask]++)] = item;
      }
    });
    items.swap(moved);
  }
}

}  // namespace

void SortByKey(CpuContext& context, std::vector<KeyIndex>& items, uint64_t max_key) {
  RadixSort(context, items, max_key, [](const KeyIndex& item) { return item.key; });
}

bool KeyWords::Fit(uint64_t max_key, int64_t count) {
  return BitWidth(max_key) + KeyWords(count).index_bits_ <= 64;
}

KeyWords::KeyWords(int64_t count)
    : index_bits_(BitWidth(static_cast<uint64_t>(std::max<int64_t>(count, 2) - 1))) {}

void KeyWords::Sort(CpuContext& context, std::vector<uint64_t>& words, uint64_t max_key) const {
  RadixSort(context, words, max_key, [this](uint64_t word) { return key(word); });
}

}  // namespace rulebook::cpu
