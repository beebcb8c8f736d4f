// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// Conversions of 16-bit floats for one instruction set, built like convolution_kernels.h. Every
// table gives the same bits.
#pragma once

#include <cstdint>

#include "rulebook/half.h"

namespace rulebook::cpu {

struct ConversionKernels {
  void (*widen_half)(const Float16* source, int64_t count, float* out);
  void (*narrow_half)(const float* source, int64_t count, Float16* out);
  void (*widen_bfloat)(const BFloat16* source, int64_t count, float* out);
  void (*narrow_bfloat)(const float* source, int64_t count, BFloat16* out);
};

const ConversionKernels& GenericConversionKernels();
const ConversionKernels& Avx2ConversionKernels();  // needs F16C too

}  // namespace rulebook::cpu
