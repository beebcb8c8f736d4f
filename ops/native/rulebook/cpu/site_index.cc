// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#include "site_index.h"

#include <algorithm>
#include <limits>

#include "columns.h"
#include "coords_text.h"
#include "parallel.h"

namespace rulebook::cpu {
namespace {

constexpr int64_t kRowsPerBlock = 8192;

struct Extent {
  std::array<int32_t, 1 + kMaxAxes> min;
  std::array<int32_t, 1 + kMaxAxes> max;

  Extent() {
    min.fill(std::numeric_limits<int32_t>::max());
    max.fill(std::numeric_limits<int32_t>::min());
  }

  void Merge(const Extent& other) {
    for (size_t c = 0; c < min.size(); ++c) {
      min[c] = std::min(min[c], other.min[c]);
      max[c] = std::max(max[c], other.max[c]);
    }
  }
};

template <int kColumns>
Extent BlockExtent(CoordsView coords, int64_t begin, int64_t end) {
  Extent extent;
  for (int64_t i = begin; i < end; ++i) {
    const int32_t* row = coords.data + i * kColumns;
    for (size_t c = 0; c < kColumns; ++c) {
      extent.min[c] = std::min(extent.min[c], row[c]);
      extent.max[c] = std::max(extent.max[c], row[c]);
    }
  }
  return extent;
}

Extent CoordsExtent(CpuContext& context, CoordsView coords) {
  std::vector<Extent> blocks(static_cast<size_t>(CeilDiv(coords.rows, kRowsPerBlock)));
  WithColumns(coords.columns(), [&](auto columns) {
    ForBlocks(context, coords.rows, kRowsPerBlock, [&](int64_t block, int64_t begin, int64_t end) {
      blocks[static_cast<size_t>(block)] = BlockExtent<columns>(coords, begin, end);
    });
  });
  Extent extent;
  for (const Extent& block : blocks) extent.Merge(block);
  return extent;
}

}  // namespace

KeyBox BoundingBox(CpuContext& context, CoordsView a, CoordsView b) {
  Extent extent = CoordsExtent(context, a);
  extent.Merge(CoordsExtent(context, b));
  KeyBox box;
  box.columns = static_cast<int>(a.columns());
  uint64_t volume = 1;
  for (size_t c = 0; c < static_cast<size_t>(box.columns); ++c) {
    if (a.rows == 0 && b.rows == 0) continue;  // size 0: nothing lies inside
    box.low[c] = extent.min[c];
    box.size[c] = static_cast<uint64_t>(int64_t{extent.max[c]} - int64_t{extent.min[c]} + 1);
    if (volume > std::numeric_limits<uint64_t>::max() / box.size[c]) {
      ThrowInvalid("coords: the box around the sites has more than 2^64 cells: column ", c,
                   " spans [", extent.min[c], ", ", extent.max[c], "]");
    }
    volume *= box.size[c];
  }
  return box;
}

void PackCanonical(CpuContext& context, CoordsView coords, const KeyBox& box, const char* what,
                   uint64_t* keys) {
  WithColumns(box.columns, [&](auto columns) {
    ForBlocks(context, coords.rows, kRowsPerBlock, [&](int64_t, int64_t begin, int64_t end) {
      uint64_t last = 0;
      if (begin > 0) PackSite<columns>(box, coords.data + (begin - 1) * columns, &last);
      for (int64_t i = begin; i < end; ++i) {
        uint64_t key = 0;
        PackSite<columns>(box, coords.data + i * columns, &key);
        if (i > 0 && key <= last) ThrowUnordered(what, coords, i);
        keys[i] = last = key;
      }
    });
  });
}

SiteIndex::SiteIndex(CpuContext& context, CoordsView coords)
    : box_(BoundingBox(context, coords, CoordsView{nullptr, 0, coords.axes})),
      keys_(static_cast<size_t>(coords.rows)) {
  PackCanonical(context, coords, box_, "coords", keys_.data());
}

// A few steps of doubling length away from the hint, then a binary search of what is left: queries
// in order are found at once, and those in no order cost little more than the search.
int64_t SiteIndex::LowerBound(uint64_t key, int64_t hint) const {
  constexpr int64_t kLongestStep = 16;
  const uint64_t* keys = keys_.data();
  int64_t low = 0;         // every key before `low` is below `key`
  int64_t high = sites();  // no key from `high` on is below `key`
  if (hint < high && keys[hint] < key) {
    low = hint + 1;
    for (int64_t step = 1; step <= kLongestStep && low + step <= high; step *= 2) {
      if (keys[low + step - 1] >= key) {
        high = low + step - 1;
        break;
      }
      low += step;
    }
  } else {
    high = hint;
    for (int64_t step = 1; step <= kLongestStep && low <= high - step; step *= 2) {
      if (keys[high - step] < key) {
        low = high - step + 1;
        break;
      }
      high -= step;
    }
  }
  // By arithmetic rather than by branches, which no processor could predict.
  for (int64_t length = high - low; length > 0;) {
    const int64_t half = (length + 1) / 2;
    low += half * static_cast<int64_t>(keys[low + half - 1] < key);
    length -= half;
  }
  return low;
}

}  // namespace rulebook::cpu
