// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#pragma once

#include "device.h"

namespace rulebook::cuda {

// NaN wins and stays.
__device__ inline float MaxOf(float best, float value) {
  return value > best || value != value ? value : best;
}

}  // namespace rulebook::cuda
