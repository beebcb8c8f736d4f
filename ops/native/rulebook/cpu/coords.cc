// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#include "rulebook/coords.h"

#include <algorithm>
#include <vector>

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

struct Scan {
  uint64_t max_key = 0;
  bool canonical = true;
};

Scan ScanSites(CpuContext& context, CoordsView coords, const SpatialShape& shape) {
  const cpu::KeyBox box = cpu::GridBox(shape);
  std::vector<Scan> blocks(static_cast<size_t>(cpu::CeilDiv(coords.rows, kRowsPerBlock)));
  cpu::WithColumns(box.columns, [&](auto columns) {
    cpu::ForBlocks(context, coords.rows, kRowsPerBlock, [&](int64_t b, int64_t begin, int64_t end) {
      Scan scan;
      PackBlock<columns>(coords, shape, box, begin, end, [&](int64_t, uint64_t key, bool up) {
        scan.max_key = std::max(scan.max_key, key);
        scan.canonical &= up;
      });
      blocks[static_cast<size_t>(b)] = scan;
    });
  });
  Scan all;
  for (const Scan& block : blocks) {
    all.max_key = std::max(all.max_key, block.max_key);
    all.canonical &= block.canonical;
  }
  return all;
}

std::vector<KeyIndex> PackSites(CpuContext& context, CoordsView coords, const SpatialShape& shape) {
  const cpu::KeyBox box = cpu::GridBox(shape);
  std::vector<KeyIndex> items(static_cast<size_t>(coords.rows));
  cpu::WithColumns(box.columns, [&](auto columns) {
    cpu::ForBlocks(context, coords.rows, kRowsPerBlock, [&](int64_t, int64_t begin, int64_t end) {
      PackBlock<columns>(coords, shape, box, begin, end, [&](int64_t i, uint64_t key, bool) {
        items[static_cast<size_t>(i)] = {key, i};
      });
    });
  });
  return items;
}

// rank[i] = the number of distinct sites before input row i's. Returns how many there are.
int64_t RankSorted(CoordsView coords, const std::vector<KeyIndex>& items, Duplicates duplicates,
                   int64_t* rank) {
  int64_t distinct = 0;
  for (size_t j = 0; j < items.size(); ++j) {
    if (j == 0 || items[j].key != items[j - 1].key) {
      ++distinct;
    } else if (duplicates == Duplicates::kError) {
      ThrowInvalid("coords: rows ", items[j - 1].index, " and ", items[j].index,
                   " are the same site ", cpu::RowText(coords, items[j].index));
    }
    rank[items[j].index] = distinct - 1;
  }
  return distinct;
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
  cpu::WithColumns(box.columns, [&](auto columns) {
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
  return ScanSites(context, coords, shape).canonical;
}

template <>
void SortSites<Device::kCpu>(CpuContext& context, CoordsView coords, const SpatialShape& shape,
                             Duplicates duplicates, int64_t* rank,
                             FunctionRef<SortedSites(int64_t)> allocate) {
  CheckAgainst(coords, shape);
  const Scan scan = ScanSites(context, coords, shape);
  if (scan.canonical) return CopyCanonical(context, coords, rank, allocate);
  std::vector<KeyIndex> items = PackSites(context, coords, shape);
  cpu::SortByKey(context, items, scan.max_key);
  const int64_t distinct = RankSorted(coords, items, duplicates, rank);
  const SortedSites sorted = allocate(distinct);
  cpu::ForBlocks(context, coords.rows, kRowsPerBlock, [&](int64_t, int64_t begin, int64_t end) {
    for (int64_t j = begin; j < end; ++j) {
      const KeyIndex item = items[static_cast<size_t>(j)];
      if (j > 0 && item.key == items[static_cast<size_t>(j) - 1].key) continue;
      const int64_t row = rank[item.index];
      sorted.order[row] = item.index;
      std::copy_n(coords.row(item.index), coords.columns(), sorted.coords + row * coords.columns());
    }
  });
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
  cpu::WithColumns(static_cast<int>(coords.columns()), [&](auto columns) {
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
