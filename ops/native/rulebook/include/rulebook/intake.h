// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// Sites and features as they come from outside: packed little-endian bytes at any address.
#pragma once

#include <cstdint>

#include "rulebook/context.h"
#include "rulebook/coords.h"
#include "rulebook/shape.h"

namespace rulebook {

// Bytes of one spatial index as it was sent.
enum class IndexWidth { kInt16 = 2, kInt32 = 4 };

// Reads [rows, axes] spatial indices into coords [rows, 1 + axes] of one batch index.
void ReadSites(const void* bytes, IndexWidth width, int64_t rows, int axes, int32_t batch,
               int32_t* coords);

// Reads `count` float32. Returns the index of the first that is not finite, or -1; all are read
// either way.
int64_t ReadFloats(const void* bytes, int64_t count, float* values);

// Whether `coords` is in canonical order already. Throws InvalidArgument for a row outside `shape`.
template <Device D>
bool IsCanonical(Context<D>& context, CoordsView coords, const SpatialShape& shape);

}  // namespace rulebook
