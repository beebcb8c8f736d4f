// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "rulebook/context.h"
#include "rulebook/coords.h"

namespace rulebook {

enum class UnionMode { kSum, kConcat };

template <typename T>
struct UnionSites {
  int32_t* coords;  // [M, 1 + axes], canonical
  T* features;      // [M, C]; C = channels_a (kSum) or channels_a + channels_b (kConcat)
};

// The sites of a or b; a missing side contributes zeros. Both coords are canonical; kSum needs
// channels_a == channels_b. `allocate(M)` is called once.
template <Device D, typename T>
void SparseUnion(Context<D>& context, CoordsView coords_a, const T* features_a, int64_t channels_a,
                 CoordsView coords_b, const T* features_b, int64_t channels_b, UnionMode mode,
                 FunctionRef<UnionSites<T>(int64_t)> allocate);

}  // namespace rulebook
