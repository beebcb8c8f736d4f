// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// Memory of a session's GPU that stays, out of ONNX Runtime's own allocator but not out of its
// arena: with such a piece among it the arena could give nothing back after a large frame.
#pragma once

#include <onnxruntime_cxx_api.h>

#include <cstddef>
#include <memory>

namespace voxgate {

class DeviceMemory {
 public:
  explicit DeviceMemory(const OrtKernelInfo* info);

  int device() const { return device_; }
  // The same for all nodes of a session.
  const OrtMemoryInfo* identity() const { return allocator_->Info(allocator_.get()); }

  // Aligned to CudaContext::kAlignment. Asks the driver: not for every call. Throws Error
  // (kResourceExhausted); `what` names the memory in the message.
  void* Allocate(size_t bytes, const char* what);
  // No work that uses the memory may be queued any more.
  void Free(void* memory) noexcept;

 private:
  struct ReleaseAllocator {
    void operator()(OrtAllocator* allocator) const { Ort::GetApi().ReleaseAllocator(allocator); }
  };

  std::unique_ptr<OrtAllocator, ReleaseAllocator> allocator_;
  int device_ = 0;
};

}  // namespace voxgate
