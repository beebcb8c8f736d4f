// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "rulebook/context.h"
#include "rulebook/coords.h"
#include "rulebook/shape.h"

namespace rulebook {

// out [batch_size, channels, *shape], 0 where no site is. Coords in any order, in range; of equal
// sites the last row wins. Throws when batch_size * channels * volume passes kMaxDenseElements.
template <Device D, typename T>
void SparseToDense(Context<D>& context, CoordsView coords, const T* features, int64_t channels,
                   int64_t batch_size, const SpatialShape& shape, T* out);

// Number of elements SparseToDense writes; throws ResourceExhausted past kMaxDenseElements, so a
// caller may check before it allocates.
int64_t DenseElements(int64_t batch_size, int64_t channels, const SpatialShape& shape);

template <typename T>
struct DenseSites {
  int32_t* coords;  // [M, 1 + axes]
  T* features;      // [M, channels]
};

// A cell is active iff any channel's |value| > threshold (NaN is active). dense [batch_size,
// channels, *shape]; the sites come out canonical. `allocate(M)` is called once.
template <Device D, typename T>
void DenseToSparse(Context<D>& context, const T* dense, int64_t batch_size, int64_t channels,
                   const SpatialShape& shape, float threshold,
                   FunctionRef<DenseSites<T>(int64_t)> allocate);

}  // namespace rulebook
