// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#include "split_input.h"

#include <atomic>

#include "parallel.h"
#include "split_convolution.h"

namespace rulebook::cpu {

SplitInput::SplitInput(CpuContext& context, const ConvInputs<float>& in,
                       const PackedWeight<Device::kCpu, float>& weight) {
  const SplitKernels* kernels = weight.split();
  if (kernels == nullptr) return;
  const int64_t channels = weight.shape().in_channels;
  buffer_.emplace((in.inputs * SplitPartsOf(channels) + 1) / 2);
  auto* parts = reinterpret_cast<uint16_t*>(buffer_->get());
  extreme_.reset(new uint8_t[static_cast<size_t>(in.inputs)]);
  std::atomic<int64_t> extreme_rows{0};
  ForBlocks(context, in.inputs, RowsPerTask(channels), [&](int64_t, int64_t begin, int64_t end) {
    extreme_rows += kernels->split(in.features + begin * channels, end - begin, channels,
                                   parts + begin * SplitPartsOf(channels), extreme_.get() + begin);
  });
  any_extreme_ = extreme_rows > 0;
  parts_ = parts;
}

}  // namespace rulebook::cpu
