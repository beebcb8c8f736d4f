// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <type_traits>

#include "rulebook/shape.h"

namespace rulebook {

// Calls body(std::integral_constant<int, columns>), so that loops over the columns of coords unroll
// and kernels are made per width.
template <typename Body>
decltype(auto) WithColumns(int64_t columns, const Body& body) {
  static_assert(kMaxAxes == 4, "one case per number of axes");
  switch (columns) {
    case 2:
      return body(std::integral_constant<int, 2>{});
    case 3:
      return body(std::integral_constant<int, 3>{});
    case 4:
      return body(std::integral_constant<int, 4>{});
    default:
      return body(std::integral_constant<int, 5>{});
  }
}

}  // namespace rulebook
