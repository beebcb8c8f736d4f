// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// One Compute of one node: its inputs as checked tensors, its outputs as memory to write.
#pragma once

#include <onnxruntime_cxx_api.h>

#include <cstdint>
#include <initializer_list>
#include <vector>

#include "context.h"
#include "rulebook/shape.h"
#include "tensor.h"

namespace voxgate {

// Reads a tensor's shape and address; throws when its rank is outside the port's.
const void* ReadTensorData(const OrtValue* value, const Port& port, Shape* shape);

template <typename T>
Tensor<T> ReadTensor(const OrtValue* value, const Port& port) {
  Tensor<T> tensor;
  tensor.port = &port;
  tensor.data = static_cast<const T*>(ReadTensorData(value, port, &tensor.shape));
  tensor.present = true;
  return tensor;
}

// Throws unless 0 <= batch_size <= kMaxBatchSize; `what` names it in the message.
void CheckBatchSize(const char* what, int64_t batch_size);

// The half that is the same on every device.
class KernelCall {
 public:
  KernelCall(OrtKernelContext* context, const Port* inputs, const Port* outputs, bool host_memory)
      : context_(context), inputs_(inputs), outputs_(outputs), host_memory_(host_memory) {}

  // Input `index`, of the declared rank. An absent optional input comes back not present; throws
  // when a required one is absent or a rank is off.
  template <typename T>
  Tensor<T> Input(size_t index) const {
    const OrtValue* value = InputValue(index);
    if (value != nullptr) return ReadTensor<T>(value, inputs_[index]);
    Tensor<T> absent;
    absent.port = &inputs_[index];
    return absent;
  }

  // The int64 at input `index`, in [0, kMaxBatchSize].
  int64_t BatchSize(size_t index) const;

  // Memory for output `index`. Throws ResourceExhausted, before anything is allocated, when it
  // would have more than `limit` elements.
  template <typename T>
  T* Output(size_t index, std::initializer_list<int64_t> dims,
            int64_t limit = rulebook::kMaxDenseElements) {
    return static_cast<T*>(OutputData(index, dims.begin(), dims.size(), limit, sizeof(T)));
  }
  template <typename T>
  T* Output(size_t index, const std::vector<int64_t>& dims) {
    return static_cast<T*>(
        OutputData(index, dims.data(), dims.size(), rulebook::kMaxDenseElements, sizeof(T)));
  }

 private:
  const OrtValue* InputValue(size_t index) const;  // null: absent and optional
  void* OutputData(size_t index, const int64_t* dims, size_t rank, int64_t limit,
                   int64_t element_bytes);

  OrtKernelContext* context_;
  const Port* inputs_;
  const Port* outputs_;
  bool host_memory_;
};

template <rulebook::Device D>
class Call final : public KernelCall {
 public:
  Call(const NodeDevice<D>& node, OrtKernelContext* context, const Port* inputs,
       const Port* outputs)
      : KernelCall(context, inputs, outputs, D == rulebook::Device::kCpu),
        compute_(node, context) {}

  ComputeContext<D>& context() { return compute_; }

 private:
  ComputeContext<D> compute_;
};

}  // namespace voxgate
