// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// What is wrong with a row of coords, in words. Kept apart because only failures come here.
#pragma once

#include <string>

#include "rulebook/coords.h"

namespace rulebook::cpu {

std::string SiteText(const int32_t* site, int64_t columns);  // "(0, 3, 7, 2)"
std::string RowText(CoordsView coords, int64_t row);

// Row `row` does not come after the one before it: throws InvalidArgument saying whether it is out
// of order or the same site again.
[[noreturn]] void ThrowUnordered(const char* what, CoordsView coords, int64_t row);
[[noreturn]] void ThrowUnordered(const char* what, const int32_t* before, const int32_t* site,
                                 int64_t columns, int64_t row);

// Throws InvalidArgument naming the first column of `row` that lies outside the grid.
[[noreturn]] void ThrowOutside(const char* what, CoordsView coords, int64_t row, int64_t batch_size,
                               const SpatialShape& shape);
[[noreturn]] void ThrowOutside(const char* what, const int32_t* site, int64_t row,
                               int64_t batch_size, const SpatialShape& shape);

// Throws InvalidArgument unless 1 <= axes <= kMaxAxes, and ResourceExhausted past kMaxSites.
void CheckCoordsView(const char* what, CoordsView coords);

}  // namespace rulebook::cpu
