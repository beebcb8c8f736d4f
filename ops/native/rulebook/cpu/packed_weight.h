// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// Weights as the CPU kernels read them: for every kernel offset and group, panels of consecutive
// output channels, each panel [Ci/g, width], width padded with zeros to whole vectors.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <vector>

#include "convolution_kernels.h"
#include "rulebook/convolution.h"
#include "split_convolution.h"

namespace rulebook {
namespace cpu {

struct FreeDeleter {
  void operator()(void* memory) const { std::free(memory); }
};
using AlignedFloats = std::unique_ptr<float[], FreeDeleter>;

// 64-byte aligned, uninitialised: a cache line and a vector never straddle.
AlignedFloats AllocateFloats(int64_t count);

}  // namespace cpu

template <>
class PackedWeight<Device::kCpu, float> {
 public:
  // `split` may be null.
  PackedWeight(const cpu::ConvKernels& kernels, const cpu::SplitKernels* split, const float* weight,
               const WeightShape& shape);

  const WeightShape& shape() const { return shape_; }
  const cpu::ConvKernels& kernels() const { return kernels_; }
  bool depthwise() const { return depthwise_; }

  int64_t group_in_channels() const { return shape_.in_channels / shape_.groups; }
  int64_t group_out_channels() const { return shape_.out_channels / shape_.groups; }
  // Floats of one row of sums: every group's output channels padded to whole vectors.
  int64_t sum_stride() const { return shape_.groups * padded_group_; }
  int64_t padded_group() const { return padded_group_; }

  int64_t panels() const { return static_cast<int64_t>(panel_begin_.size()) - 1; }
  // First of the padded columns of a panel within its group.
  int64_t panel_begin(int64_t panel) const { return panel_begin_[static_cast<size_t>(panel)]; }
  cpu::Panel panel(int64_t offset, int64_t group, int64_t panel) const {
    const int64_t column = panel_begin(panel);
    const int64_t group_floats = group_in_channels() * padded_group_;
    return {data_.get() + (offset * shape_.groups + group) * group_floats +
                column * group_in_channels(),
            panel_begin(panel + 1) - column};
  }
  // Null where this layer is not for split convolution.
  const cpu::SplitKernels* split() const { return split_; }
  const uint16_t* split_weight(int64_t offset) const {
    const int64_t values = shape_.in_channels * shape_.out_channels;
    return reinterpret_cast<const uint16_t*>(split_data_.get()) +
           offset * cpu::SplitPartsOf(values);
  }

  // Depthwise: one weight a channel.
  const float* channel_weights(int64_t offset) const {
    return data_.get() + offset * shape_.out_channels;
  }

 private:
  void PackPanels(const float* weight);
  void PackSplit(const cpu::SplitKernels* kernels, const float* weight);

  const cpu::ConvKernels& kernels_;
  WeightShape shape_;
  bool depthwise_;
  int64_t padded_group_;
  std::vector<int64_t> panel_begin_;  // [panels + 1]
  cpu::AlignedFloats data_;
  const cpu::SplitKernels* split_ = nullptr;
  cpu::AlignedFloats split_data_;  // bfloat16
};

}  // namespace rulebook
