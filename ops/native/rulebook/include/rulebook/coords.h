// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// Coordinates and their canonical order: rows sorted by (batch, axis 0, …, axis D-1), unique, in
// range. SortSites establishes it; every other operator of the library requires and keeps it.
#pragma once

#include <cstdint>

#include "rulebook/context.h"
#include "rulebook/shape.h"

namespace rulebook {

// int32 [rows, 1 + axes], row-major, column 0 the batch index.
struct CoordsView {
  const int32_t* data = nullptr;
  int64_t rows = 0;
  int axes = 0;

  int64_t columns() const { return 1 + axes; }
  const int32_t* row(int64_t i) const { return data + i * columns(); }
};

// Throws InvalidArgument naming the first offending row unless `coords` is canonical for `shape`.
template <Device D>
void CheckCanonical(Context<D>& context, CoordsView coords, const SpatialShape& shape);

enum class Duplicates { kError, kFirst };

struct SortedSites {
  int32_t* coords;  // [M, 1 + axes]
  int64_t* order;   // [M]: sorted row j is input row order[j]
};

// Brings sites into canonical order. `rank` [N]: input row i is sorted row rank[i]; of equal sites
// the lowest input row is kept (kFirst) or an error is thrown (kError). `allocate(M)` is called
// once, before anything is written. Input that is already canonical costs one scan and a copy.
template <Device D>
void SortSites(Context<D>& context, CoordsView coords, const SpatialShape& shape,
               Duplicates duplicates, int64_t* rank, FunctionRef<SortedSites(int64_t)> allocate);

// row[p] = the row of `coords` equal to query row p, or -1. `coords` is canonical, `query` is any
// int32 [P, 1 + axes] in any order, out-of-range values included (they are found nowhere).
template <Device D>
void FindSites(Context<D>& context, CoordsView coords, CoordsView query, int32_t* row);

}  // namespace rulebook
