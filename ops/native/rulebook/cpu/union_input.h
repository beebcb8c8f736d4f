// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// What SparseUnion refuses before it looks at a site, on both devices.
#pragma once

#include "coords_text.h"
#include "rulebook/union.h"

namespace rulebook::cpu {

inline void CheckUnion(CoordsView coords_a, int64_t channels_a, CoordsView coords_b,
                       int64_t channels_b, UnionMode mode) {
  CheckCoordsView("coords_a", coords_a);
  CheckCoordsView("coords_b", coords_b);
  if (coords_a.axes != coords_b.axes) {
    ThrowInvalid("coords_b: ", coords_b.axes, " spatial axes, but coords_a have ", coords_a.axes);
  }
  if (mode == UnionMode::kSum && channels_a != channels_b) {
    ThrowInvalid("features_b: ", channels_b, " channels, but features_a have ", channels_a,
                 " and mode sum adds them");
  }
}

}  // namespace rulebook::cpu
