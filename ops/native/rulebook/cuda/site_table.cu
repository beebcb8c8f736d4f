// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#include "columns.h"
#include "site_table.h"

namespace rulebook::cuda {
namespace {

template <int kColumns>
__global__ void InsertSites(const int32_t* coords, int64_t rows, KeyGrid grid,
                            SiteTableView table) {
  const int64_t row = GlobalThread();
  if (row >= rows) return;
  uint64_t key = 0;
  if (!PackSite<kColumns>(grid, coords + row * kColumns, &key)) return;
  Insert(table, key, static_cast<int32_t>(row));
}

}  // namespace

SiteTable::SiteTable(CudaContext& context, CoordsView coords, const KeyGrid& grid)
    : places_(PlacesFor(coords.rows)),
      memory_(context, static_cast<int64_t>(places_ + places_ / 2)) {
  FillBytes(context, memory_.get(), 0xFF, static_cast<int64_t>(places_ + places_ / 2));
  WithColumns(coords.columns(), [&](auto columns) {
    Launch(context, OneThreadEach(coords.rows), &InsertSites<columns>, coords.data, coords.rows,
           grid, view());
  });
}

}  // namespace rulebook::cuda
