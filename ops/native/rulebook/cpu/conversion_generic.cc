// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#include "conversion_kernels.h"
#include "conversion_loops.h"

namespace rulebook::cpu {

const ConversionKernels& GenericConversionKernels() {
  static constexpr ConversionKernels kernels = {WidenAll<Float16>, NarrowAll<Float16>,
                                                WidenAll<BFloat16>, NarrowAll<BFloat16>};
  return kernels;
}

}  // namespace rulebook::cpu
