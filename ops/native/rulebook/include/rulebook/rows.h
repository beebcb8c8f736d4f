// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "rulebook/context.h"

namespace rulebook {

// out [outputs, channels]: out[p] = x[row[p]]; row -1 gives `fill`. Throws for a row outside
// [-1, inputs). T: float, Float16, BFloat16, int32_t or int64_t.
template <Device D, typename T>
void GatherRows(Context<D>& context, const T* x, int64_t inputs, int64_t channels,
                const int32_t* row, int64_t outputs, T fill, T* out);

enum class ReduceMode { kSum, kMean, kMax, kFirst };

// out [outputs, channels]: out[v] reduces every x[p] with row[p] == v, p ascending; none gives 0;
// row -1 is dropped. Throws for a row outside [-1, outputs).
template <Device D, typename T>
void ReduceRows(Context<D>& context, const T* x, int64_t inputs, int64_t channels,
                const int32_t* row, int64_t outputs, ReduceMode mode, T* out);

}  // namespace rulebook
