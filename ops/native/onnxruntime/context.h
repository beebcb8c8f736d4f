// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// The rulebook library's contexts on what ONNX Runtime lends: its thread pool on the CPU; for a GPU
// see cuda/context_cuda.h.
#pragma once

#include <onnxruntime_cxx_api.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "rulebook/context.h"

namespace voxgate {

// What a node keeps about where it runs.
template <rulebook::Device D>
class NodeDevice;

// For the length of one Compute.
template <rulebook::Device D>
class ComputeContext;

// For session creation, where ONNX Runtime lends nothing. It must live as long as what was made
// with it; Finish comes after the last of that.
template <rulebook::Device D>
class SetupContext;

template <>
class NodeDevice<rulebook::Device::kCpu> {
 public:
  explicit NodeDevice(const OrtKernelInfo* /*info*/) {}
};

template <>
class ComputeContext<rulebook::Device::kCpu> final : public rulebook::CpuContext {
 public:
  ComputeContext(const NodeDevice<rulebook::Device::kCpu>& /*node*/, const OrtKernelContext* kernel)
      : kernel_(kernel) {}

  void Copy(void* destination, const void* source, size_t bytes) const {
    if (bytes > 0) std::memcpy(destination, source, bytes);
  }

 protected:
  void Run(int64_t tasks, rulebook::FunctionRef<void(int64_t)> task) override {
    // num_batch 0: the pool's threads claim tasks one by one from shared counters, so uneven tasks
    // balance; any other value would cut the range into that many fixed pieces.
    constexpr size_t kClaimOneByOne = 0;
    Ort::ThrowOnError(Ort::GetApi().KernelContext_ParallelFor(
        kernel_,
        [](void* data, size_t i) {
          (*static_cast<rulebook::FunctionRef<void(int64_t)>*>(data))(static_cast<int64_t>(i));
        },
        static_cast<size_t>(tasks), kClaimOneByOne, &task));
  }

 private:
  const OrtKernelContext* kernel_;
};

template <>
class SetupContext<rulebook::Device::kCpu> final : public rulebook::CpuContext {
 public:
  explicit SetupContext(const OrtKernelInfo* /*info*/) {}

  void Finish() {}

 protected:
  void Run(int64_t tasks, rulebook::FunctionRef<void(int64_t)> task) override {
    for (int64_t i = 0; i < tasks; ++i) task(i);
  }
};

}  // namespace voxgate

#if defined(VOXGATE_HAS_CUDA)
#include "cuda/context_cuda.h"
#endif
