// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// A layer's features as a split convolution reads them: see split_convolution.h.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include "packed_weight.h"
#include "rulebook/context.h"
#include "rulebook/convolution.h"
#include "wide_buffer.h"

namespace rulebook::cpu {

class SplitInput {
 public:
  // Splits in.features, if the layer is for split convolution.
  SplitInput(CpuContext& context, const ConvInputs<float>& in,
             const PackedWeight<Device::kCpu, float>& weight);

  // [inputs][Ci / 32][3][32] bfloat16, or null.
  const uint16_t* parts() const { return parts_; }

  // Whether any row, or this one, must be read as float32.
  bool any_extreme() const { return any_extreme_; }
  bool extreme(int32_t row) const { return extreme_[static_cast<size_t>(row)] != 0; }

 private:
  std::optional<WideBuffer> buffer_;
  std::unique_ptr<uint8_t[]> extreme_;
  const uint16_t* parts_ = nullptr;
  bool any_extreme_ = false;
};

}  // namespace rulebook::cpu
