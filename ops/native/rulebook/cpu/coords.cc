// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#include "rulebook/coords.h"

#include <algorithm>
#include <atomic>
#include <vector>

#include "columns.h"
#include "coords_text.h"
#include "key_sort.h"
#include "parallel.h"
#include "rulebook/intake.h"
#include "site_index.h"
#include "site_key.h"

namespace rulebook {
namespace {

using cpu::KeyIndex;

constexpr int64_t kRowsPerBlock = 8192;

void CheckAgainst(CoordsView coords, const SpatialShape& shape) {
  CheckSpatialShape(shape);
  cpu::CheckCoordsView("coords", coords);
  if (coords.axes != shape.axes) {
    ThrowInvalid("coords: ", coords.axes, " spatial axes, but spatial_shape ", ToString(shape),
                 " has ", shape.axes);
  }
}

// Packs rows [begin, end), calling visit(row, key, whether it ascends). Throws for a row outside.
template <int kColumns, typename Visit>
void PackBlock(CoordsView coords, const SpatialShape& shape, const cpu::KeyBox& box, int64_t begin,
               int64_t end, const Visit& visit) {
  uint64_t last = 0;
  // A row outside is the business of the block that holds it: its error comes first.
  if (begin > 0) cpu::PackSite<kColumns>(box, coords.data + (begin - 1) * kColumns, &last);
  for (int64_t i = begin; i < end; ++i) {
    uint64_t key = 0;
    if (!cpu::PackSite<kColumns>(box, coords.data + i * kColumns, &key)) {
      cpu::ThrowOutside("coords", coords, i, kMaxBatchSize, shape);
    }
    visit(i, key, i == 0 || key > last);
    last = key;
  }
}

// Whether all rows are inside the grid and in canonical order. Throws nothing, so that it may stop
// at the first that is not.
bool InOrder(CpuContext& context, CoordsView coords, const SpatialShape& shape) {
  const cpu::KeyBox box = cpu::GridBox(shape);
  std::atomic<bool> in_order{true};
  WithColumns(box.columns, [&](auto columns) {
    cpu::ForBlocks(context, coords.rows, kRowsPerBlock, [&](int64_t, int64_t begin, int64_t end) {
      uint64_t last = 0;
      bool so_far = in_order.load(std::memory_order_relaxed);
      if (begin > 0) so_far &= cpu::PackSite<columns>(box, coords.row(begin - 1), &last);
      for (int64_t i = begin; i < end && so_far; ++i) {
        uint64_t key = 0;
        so_far =
            cpu::PackSite<columns>(box, coords.data + i * columns, &key) && (i == 0 || key > last);
        last = key;
      }
      if (!so_far) in_order.store(false, std::memory_order_relaxed);
    });
  });
  return in_order.load(std::memory_order_relaxed);
}

// How SortSites holds a row's key and index: in a word where they fit, which is nearly always.
struct PairItems {
  using Item = KeyIndex;
  static Item Pack(uint64_t key, int64_t index) { return {key, index}; }
  static uint64_t key(const Item& item) { return item.key; }
  static int64_t index(const Item& item) { return item.index; }
  static void Sort(CpuContext& context, std::vector<Item>& items, uint64_t max_key) {
    cpu::SortByKey(context, items, max_key);
  }
};

struct WordItems : cpu::KeyWords {
  using Item = uint64_t;
  using KeyWords::KeyWords;
};

// One item a row, not sorted yet. Throws for a row outside.
template <typename Items>
std::vector<typename Items::Item> PackSites(CpuContext& context, CoordsView coords,
                                            const SpatialShape& shape, const Items& as,
                                            uint64_t* max_key) {
  const cpu::KeyBox box = cpu::GridBox(shape);
  std::vector<typename Items::Item> items(static_cast<size_t>(coords.rows));
  std::vector<uint64_t> largest(static_cast<size_t>(cpu::CeilDiv(coords.rows, kRowsPerBlock)));
  WithColumns(box.columns, [&](auto columns) {
    cpu::ForBlocks(context, coords.rows, kRowsPerBlock, [&](int64_t b, int64_t begin, int64_t end) {
      uint64_t most = 0;
      for (int64_t i = begin; i < end; ++i) {
        uint64_t key = 0;
        if (!cpu::PackSite<columns>(box, coords.data + i * columns, &key)) {
          cpu::ThrowOutside("coords", coords, i, kMaxBatchSize, shape);
        }
        most = std::max(most, key);
        items[static_cast<size_t>(i)] = as.Pack(key, i);
      }
      largest[static_cast<size_t>(b)] = most;
    });
  });
  *max_key = *std::max_element(largest.begin(), largest.end());
  return items;
}

// rank[i] = the number of distinct sites before input row i's. Returns how many there are.
template <typename Items>
int64_t RankSorted(CoordsView coords, const std::vector<typename Items::Item>& items,
                   const Items& as, Duplicates duplicates, int64_t* rank) {
  int64_t distinct = 0;
  for (size_t j = 0; j < items.size(); ++j) {
    const int64_t row = as.index(items[j]);
    if (j == 0 || as.key(items[j]) != as.key(items[j - 1])) {
      ++distinct;
    } else if (duplicates == Duplicates::kError) {
      ThrowInvalid("coords: rows ", as.index(items[j - 1]), " and ", row, " are the same site ",
                   cpu::RowText(coords, row));
    }
    rank[row] = distinct - 1;
  }
  return distinct;
}

template <typename Items>
void SortUnordered(CpuContext& context, CoordsView coords, const SpatialShape& shape,
                   Duplicates duplicates, const Items& as, int64_t* rank,
                   FunctionRef<SortedSites(int64_t)> allocate) {
  uint64_t max_key = 0;
  auto items = PackSites(context, coords, shape, as, &max_key);
  as.Sort(context, items, max_key);
  const int64_t distinct = RankSorted(coords, items, as, duplicates, rank);
  const SortedSites sorted = allocate(distinct);
  WithColumns(coords.columns(), [&](auto columns) {
    cpu::ForBlocks(context, coords.rows, kRowsPerBlock, [&](int64_t, int64_t begin, int64_t end) {
      for (int64_t j = begin; j < end; ++j) {
        const auto item = items[static_cast<size_t>(j)];
        const int64_t from = as.index(item);
        int64_t row = j;
        if (distinct < coords.rows) {
          if (j > 0 && as.key(item) == as.key(items[static_cast<size_t>(j) - 1])) continue;
          row = rank[from];
        }
        sorted.order[row] = from;
        std::copy_n(coords.data + from * columns, columns(), sorted.coords + row * columns);
      }
    });
  });
}

void CopyCanonical(CpuContext& context, CoordsView coords, int64_t* rank,
                   FunctionRef<SortedSites(int64_t)> allocate) {
  const SortedSites sorted = allocate(coords.rows);
  cpu::ForBlocks(context, coords.rows, kRowsPerBlock, [&](int64_t, int64_t begin, int64_t end) {
    const int64_t columns = coords.columns();
    std::copy(coords.row(begin), coords.row(end), sorted.coords + begin * columns);
    for (int64_t i = begin; i < end; ++i) sorted.order[i] = rank[i] = i;
  });
}

}  // namespace

template <>
void CheckCanonical<Device::kCpu>(CpuContext& context, CoordsView coords,
                                  const SpatialShape& shape) {
  CheckAgainst(coords, shape);
  const cpu::KeyBox box = cpu::GridBox(shape);
  WithColumns(box.columns, [&](auto columns) {
    cpu::ForBlocks(context, coords.rows, kRowsPerBlock, [&](int64_t, int64_t begin, int64_t end) {
      PackBlock<columns>(coords, shape, box, begin, end, [&](int64_t i, uint64_t, bool up) {
        if (!up) cpu::ThrowUnordered("coords", coords, i);
      });
    });
  });
}

template <>
bool IsCanonical<Device::kCpu>(CpuContext& context, CoordsView coords, const SpatialShape& shape) {
  CheckAgainst(coords, shape);
  const cpu::KeyBox box = cpu::GridBox(shape);
  std::atomic<bool> canonical{true};
  WithColumns(box.columns, [&](auto columns) {
    cpu::ForBlocks(context, coords.rows, kRowsPerBlock, [&](int64_t, int64_t begin, int64_t end) {
      bool ascends = true;
      PackBlock<columns>(coords, shape, box, begin, end,
                         [&](int64_t, uint64_t, bool up) { ascends &= up; });
      if (!ascends) canonical.store(false, std::memory_order_relaxed);
    });
  });
  return canonical.load(std::memory_order_relaxed);
}

template <>
void SortSites<Device::kCpu>(CpuContext& context, CoordsView coords, const SpatialShape& shape,
                             Duplicates duplicates, int64_t* rank,
                             FunctionRef<SortedSites(int64_t)> allocate) {
  CheckAgainst(coords, shape);
  if (InOrder(context, coords, shape)) return CopyCanonical(context, coords, rank, allocate);
  const auto sort_as = [&](const auto& as) {
    SortUnordered(context, coords, shape, duplicates, as, rank, allocate);
  };
  const uint64_t most = cpu::KeyCount(cpu::GridBox(shape)) - 1;
  if (cpu::KeyWords::Fit(most, coords.rows)) return sort_as(WordItems(coords.rows));
  sort_as(PairItems());
}

template <>
void FindSites<Device::kCpu>(CpuContext& context, CoordsView coords, CoordsView query,
                             int32_t* row) {
  cpu::CheckCoordsView("coords", coords);
  cpu::CheckCoordsView("query", query);
  if (coords.axes != query.axes) {
    ThrowInvalid("query: ", query.axes, " spatial axes, but coords have ", coords.axes);
  }
  const cpu::SiteIndex index(context, coords);
  WithColumns(coords.columns(), [&](auto columns) {
    cpu::ForBlocks(context, query.rows, kRowsPerBlock, [&](int64_t, int64_t begin, int64_t end) {
      int64_t hint = 0;
      for (int64_t i = begin; i < end; ++i) {
        uint64_t key = 0;
        const bool inside = cpu::PackSite<columns>(index.box(), query.data + i * columns, &key);
        row[i] = inside ? static_cast<int32_t>(index.Find(key, &hint)) : -1;
      }
    });
  });
}

}  // namespace rulebook
