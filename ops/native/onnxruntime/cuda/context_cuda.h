// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// The rulebook library's contexts on what ONNX Runtime's CUDA provider lends: its stream and its
// memory. Included by context.h.
#pragma once

#include <onnxruntime_cxx_api.h>

#include <cstddef>
#include <memory>
#include <vector>

#include "cuda/device_memory.h"
#include "cuda/scratch.h"
#include "rulebook/cuda_context.h"
#include "rulebook/cuda_host.h"

namespace voxgate {

// Throws Error when the provider has none.
CUstream_st* StreamOf(const OrtKernelContext* kernel);

template <>
class NodeDevice<rulebook::Device::kCuda> {
 public:
  explicit NodeDevice(const OrtKernelInfo* info) : scratch_(SessionScratch::Of(info)) {}

  int device() const { return scratch_->device(); }
  SessionScratch& scratch() const { return *scratch_; }

 private:
  std::shared_ptr<SessionScratch> scratch_;
};

template <>
class ComputeContext<rulebook::Device::kCuda> final : public rulebook::CudaContext {
 public:
  ComputeContext(const NodeDevice<rulebook::Device::kCuda>& node, const OrtKernelContext* kernel)
      : kernel_(kernel),
        scratch_(node.scratch()),
        current_(node.device()),
        stream_(StreamOf(kernel)) {}
  ~ComputeContext() override;
  ComputeContext(const ComputeContext&) = delete;
  ComputeContext& operator=(const ComputeContext&) = delete;

  CUstream_st* stream() const override { return stream_; }
  void* Allocate(size_t bytes) override;
  void Release(void* memory) noexcept override { stack_->Pop(memory); }
  void* pinned() override;
  bool use_tf32() const override;

  void Copy(void* destination, const void* source, size_t bytes) const {
    rulebook::CopyOnStream(stream_, destination, source, bytes);
  }

 private:
  const OrtKernelContext* kernel_;
  SessionScratch& scratch_;
  rulebook::CudaDeviceScope current_;
  CUstream_st* stream_;
  std::unique_ptr<ScratchStack> stack_;             // from the first Allocate on
  std::unique_ptr<rulebook::PinnedMemory> pinned_;  // from the first pinned() on
};

// What a node packs stays in its memory. Constant inputs of a node on the GPU lie there when its
// kernel is made: ONNX Runtime has copied them and waited. It lends no stream then.
template <>
class SetupContext<rulebook::Device::kCuda> final : public rulebook::CudaContext {
 public:
  explicit SetupContext(const OrtKernelInfo* info);

  // Waits for the work queued; afterwards the context only owns what it has packed.
  void Finish();

  CUstream_st* stream() const override { return stream_->get(); }
  void* Allocate(size_t bytes) override { return memory_.Allocate(bytes, "packed weights"); }
  void Release(void* memory) noexcept override { memory_.Free(memory); }
  void* pinned() override;

 private:
  DeviceMemory memory_;
  std::unique_ptr<rulebook::CudaDeviceScope> current_;  // until Finish, as are the others
  std::unique_ptr<rulebook::CudaStream> stream_;
  std::unique_ptr<rulebook::PinnedMemory> pinned_;
};

}  // namespace voxgate
