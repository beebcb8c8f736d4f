// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "rulebook/context.h"
#include "rulebook/coords.h"

namespace rulebook {

enum class PoolMode { kMax, kAvg, kSum };

// out [outputs, channels] over each output's active inputs only; an output without pairs is 0.
// neighbors [kernel_volume, outputs] with values in [-1, inputs): others are an error. Summation
// runs with k ascending. NaN propagates through kMax.
template <Device D, typename T>
void SparsePool(Context<D>& context, const T* features, int64_t inputs, int64_t channels,
                const int32_t* neighbors, int64_t kernel_volume, int64_t outputs, PoolMode mode,
                T* out);

// out [batch_size, channels] over the rows of each batch index, rows ascending; an empty frame is
// 0. Throws when a batch index is >= batch_size or coords are not sorted by batch.
template <Device D, typename T>
void SparseGlobalPool(Context<D>& context, const T* features, int64_t channels, CoordsView coords,
                      int64_t batch_size, PoolMode mode, T* out);

}  // namespace rulebook
