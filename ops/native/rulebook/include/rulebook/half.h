// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// 16-bit floating-point elements as they lie in memory. Arithmetic on them is float32's.
#pragma once

#include <cstdint>

namespace rulebook {

struct Float16 {
  uint16_t bits;  // IEEE 754 binary16
};

struct BFloat16 {
  uint16_t bits;  // the upper half of a float32
};

}  // namespace rulebook
