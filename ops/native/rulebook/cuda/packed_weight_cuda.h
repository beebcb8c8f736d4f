// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// Weights on the device. The context that packed them must live as long as they do, and they are
// for work queued on its stream, or after it.
#pragma once

#include "device.h"
#include "element.h"
#include "rulebook/convolution.h"

namespace rulebook {

template <typename T>
class PackedWeight<Device::kCuda, T> {
 public:
  PackedWeight(CudaContext& context, const WeightShape& shape, bool direct, int64_t count)
      : shape_(shape), direct_(direct), data_(context, count) {}

  const WeightShape& shape() const { return shape_; }
  // As they came, for the kernel without tiles.
  bool direct() const { return direct_; }
  cuda::Native<T>* data() const { return data_.get(); }

 private:
  WeightShape shape_;
  bool direct_;
  cuda::Scratch<cuda::Native<T>> data_;
};

}  // namespace rulebook
