// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#include "coords_text.h"

#include <algorithm>

namespace rulebook::cpu {

std::string SiteText(const int32_t* site, int64_t columns) {
  std::string text = "(";
  for (int64_t c = 0; c < columns; ++c) {
    if (c > 0) text += ", ";
    text += std::to_string(site[c]);
  }
  return text + ")";
}

std::string RowText(CoordsView coords, int64_t row) {
  return SiteText(coords.row(row), coords.columns());
}

void ThrowUnordered(const char* what, CoordsView coords, int64_t row) {
  ThrowUnordered(what, coords.row(row - 1), coords.row(row), coords.columns(), row);
}

void ThrowUnordered(const char* what, const int32_t* before, const int32_t* site, int64_t columns,
                    int64_t row) {
  if (std::equal(before, before + columns, site)) {
    ThrowInvalid(what, ": rows ", row - 1, " and ", row, " are the same site ",
                 SiteText(site, columns));
  }
  ThrowInvalid(what, ": row ", row, " ", SiteText(site, columns), " comes after ",
               SiteText(before, columns), ": sites must be in canonical order (SortSites)");
}

void ThrowOutside(const char* what, CoordsView coords, int64_t row, int64_t batch_size,
                  const SpatialShape& shape) {
  ThrowOutside(what, coords.row(row), row, batch_size, shape);
}

void ThrowOutside(const char* what, const int32_t* site, int64_t row, int64_t batch_size,
                  const SpatialShape& shape) {
  const std::string text = SiteText(site, 1 + shape.axes);
  if (site[0] < 0 || site[0] >= batch_size) {
    ThrowInvalid(what, ": row ", row, " ", text, " has batch index ", site[0], ", not in [0, ",
                 batch_size, ")");
  }
  for (int axis = 0; axis < shape.axes; ++axis) {
    if (site[1 + axis] < 0 || site[1 + axis] >= shape[axis]) {
      ThrowInvalid(what, ": row ", row, " ", text, " lies outside spatial_shape ", ToString(shape),
                   ": axis ", axis, " is ", site[1 + axis], ", not in [0, ", shape[axis], ")");
    }
  }
  ThrowInvalid(what, ": row ", row, " ", text, " is not a legal site");
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
