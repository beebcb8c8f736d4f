// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// Memory of a session's GPU, out of ONNX Runtime's own allocator: what the session may use
// (gpu_mem_limit) holds for the operators too.
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

  // Aligned to CudaContext::kAlignment. Throws Error (kResourceExhausted); `what` names the memory
  // in the message. May wait for the device, when the allocator has to ask the driver.
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
