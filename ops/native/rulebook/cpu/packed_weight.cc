// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#include "packed_weight.h"

#include <algorithm>
#include <new>

#include "rulebook/isa.h"
#include "rulebook/shape.h"
#include "weight_shape.h"

namespace rulebook {
namespace cpu {

AlignedFloats AllocateFloats(int64_t count) {
  constexpr size_t kAlignment = 64;
  const size_t bytes = static_cast<size_t>(std::max<int64_t>(count, 1)) * sizeof(float);
  void* memory = std::aligned_alloc(kAlignment, (bytes + kAlignment - 1) / kAlignment * kAlignment);
  if (memory == nullptr) throw std::bad_alloc();
  return AlignedFloats(static_cast<float*>(memory));
}

namespace {

const ConvKernels& KernelsOf(Isa isa) {
  switch (isa) {
    case Isa::kAmx:
    case Isa::kAvx512:
      return Avx512ConvKernels();
    case Isa::kAvx2:
      return Avx2ConvKernels();
    case Isa::kGeneric:
      break;
  }
  return GenericConvKernels();
}

}  // namespace

void CheckWeightShape(const WeightShape& shape) {
  if (shape.kernel_volume < 1 || shape.in_channels < 1 || shape.out_channels < 1 ||
      shape.groups < 1) {
    ThrowInvalid("weight: kernel volume ", shape.kernel_volume, ", in channels ", shape.in_channels,
                 ", out channels ", shape.out_channels, ", groups ", shape.groups,
                 " must all be at least 1");
  }
  if (shape.in_channels % shape.groups != 0 || shape.out_channels % shape.groups != 0) {
    ThrowInvalid("weight: ", shape.groups, " groups do not divide ", shape.in_channels,
                 " in channels and ", shape.out_channels, " out channels");
  }
  CheckedProduct(1, shape.kernel_volume, kMaxKernelVolume, "kernel volume");
  // With room for padding every group's outputs to the widest vector.
  constexpr int64_t kMostLanes = 16;
  const int64_t padded =
      CheckedProduct(shape.groups, shape.out_channels / shape.groups + kMostLanes,
                     kMaxDenseElements, "padded output channels");
  CheckedProduct(CheckedProduct(shape.kernel_volume, shape.in_channels / shape.groups,
                                kMaxDenseElements, "weight elements"),
                 padded, kMaxDenseElements, "weight elements");
}

}  // namespace cpu

PackedWeight<Device::kCpu, float>::PackedWeight(const cpu::ConvKernels& kernels,
                                                const cpu::SplitKernels* split, const float* weight,
                                                const WeightShape& shape)
    : kernels_(kernels),
      shape_(shape),
      depthwise_(shape.groups > 1 && shape.groups == shape.in_channels &&
                 shape.groups == shape.out_channels) {
  if (depthwise_) {
    padded_group_ = 1;
    const int64_t count = shape.kernel_volume * shape.out_channels;
    data_ = cpu::AllocateFloats(count);
    std::copy_n(weight, count, data_.get());
    return;
  }
  const int64_t lanes = kernels.lanes;
  padded_group_ = (group_out_channels() + lanes - 1) / lanes * lanes;
  for (int64_t column = 0; column < padded_group_; column += kernels.max_panel_width) {
    panel_begin_.push_back(column);
  }
  panel_begin_.push_back(padded_group_);
  data_ =
      cpu::AllocateFloats(shape.kernel_volume * shape.groups * group_in_channels() * padded_group_);
  PackPanels(weight);
  if (split != nullptr) PackSplit(split, weight);
}

void PackedWeight<Device::kCpu, float>::PackSplit(const cpu::SplitKernels* kernels,
                                                  const float* weight) {
  const int64_t inputs = shape_.in_channels, outputs = shape_.out_channels;
  if (shape_.groups != 1 || inputs % cpu::kSplitChannels != 0 ||
      outputs % cpu::kSplitChannels != 0) {
    return;
  }
  const int64_t values = inputs * outputs;
  split_data_ = cpu::AllocateFloats((shape_.kernel_volume * cpu::SplitPartsOf(values) + 1) / 2);
  auto* packed = reinterpret_cast<uint16_t*>(split_data_.get());
  for (int64_t k = 0; k < shape_.kernel_volume; ++k) {
    if (!kernels->pack(weight + k * values, inputs, outputs,
                       packed + k * cpu::SplitPartsOf(values))) {
      split_data_.reset();
      return;
    }
  }
  split_ = kernels;
}

void PackedWeight<Device::kCpu, float>::PackPanels(const float* weight) {
  const int64_t inputs = group_in_channels();
  const int64_t outputs = group_out_channels();
  for (int64_t k = 0; k < shape_.kernel_volume; ++k) {
    for (int64_t g = 0; g < shape_.groups; ++g) {
      for (int64_t p = 0; p < panels(); ++p) {
        const cpu::Panel target = panel(k, g, p);
        const int64_t filled = std::min(target.width, outputs - panel_begin(p));
        auto* to = const_cast<float*>(target.weight);
        for (int64_t c = 0; c < inputs; ++c, to += target.width) {
          const float* from =
              weight + (k * inputs + c) * shape_.out_channels + g * outputs + panel_begin(p);
          std::fill(std::copy_n(from, filled, to), to + target.width, 0.0F);
        }
      }
    }
  }
}

template <>
void PackedWeightDeleter<Device::kCpu, float>::operator()(
    PackedWeight<Device::kCpu, float>* weight) const {
  delete weight;
}

template <>
PackedWeightPtr<Device::kCpu, float> PackWeight<Device::kCpu, float>(CpuContext& /*context*/,
                                                                     const float* weight,
                                                                     const WeightShape& shape) {
  cpu::CheckWeightShape(shape);
  const Isa isa = CurrentIsa();
  return PackedWeightPtr<Device::kCpu, float>(new PackedWeight<Device::kCpu, float>(
      cpu::KernelsOf(isa), isa == Isa::kAmx ? cpu::AmxSplitKernels() : nullptr, weight, shape));
}

}  // namespace rulebook
