// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#include "coords_text.h"

#include <algorithm>

namespace rulebook::cpu {

std::string RowText(CoordsView coords, int64_t row) {
  std::string text = "(";
  for (int64_t c = 0; c < coords.columns(); ++c) {
    if (c > 0) text += ", ";
    text += std::to_string(coords.row(row)[c]);
  }
  return text + ")";
}

void ThrowUnordered(const char* what, CoordsView coords, int64_t row) {
  const int32_t* a = coords.row(row - 1);
  const int32_t* b = coords.row(row);
  if (std::equal(a, a + coords.columns(), b)) {
    ThrowInvalid(what, ": rows ", row - 1, " and ", row, " are the same site ",
                 RowText(coords, row));
  }
  ThrowInvalid(what, ": row ", row, " ", RowText(coords, row), " comes after ",
               RowText(coords, row - 1), ": sites must be in canonical order (SortSites)");
}

void ThrowOutside(const char* what, CoordsView coords, int64_t row, int64_t batch_size,
                  const SpatialShape& shape) {
  const int32_t* site = coords.row(row);
  if (site[0] < 0 || site[0] >= batch_size) {
    ThrowInvalid(what, ": row ", row, " ", RowText(coords, row), " has batch index ", site[0],
                 ", not in [0, ", batch_size, ")");
  }
  for (int axis = 0; axis < shape.axes; ++axis) {
    if (site[1 + axis] < 0 || site[1 + axis] >= shape[axis]) {
      ThrowInvalid(what, ": row ", row, " ", RowText(coords, row), " lies outside spatial_shape ",
                   ToString(shape), ": axis ", axis, " is ", site[1 + axis], ", not in [0, ",
                   shape[axis], ")");
    }
  }
  ThrowInvalid(what, ": row ", row, " ", RowText(coords, row), " is not a legal site");
}

void CheckCoordsView(const char* what, CoordsView coords) {
  if (coords.axes < 1 || coords.axes > kMaxAxes) {
    ThrowInvalid(what, ": ", coords.axes, " spatial axes, expected 1 to ", kMaxAxes);
  }
  if (coords.rows > kMaxSites) {
    ThrowTooLarge(what, ": ", coords.rows, " rows are over the limit ", kMaxSites);
  }
}

}  // namespace rulebook::cpu
