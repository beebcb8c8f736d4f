// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#include "device_memory.h"

#include <exception>
#include <string>

#include "rulebook/error.h"

namespace voxgate {

DeviceMemory::DeviceMemory(const OrtKernelInfo* info) {
  OrtAllocator* allocator = nullptr;
  Ort::ThrowOnError(Ort::GetApi().KernelInfoGetAllocator(info, OrtMemTypeDefault, &allocator));
  allocator_.reset(allocator);
  Ort::ThrowOnError(Ort::GetApi().MemoryInfoGetId(identity(), &device_));
}

void* DeviceMemory::Allocate(size_t bytes, const char* what) {
  std::string reason;
  try {
    void* memory = allocator_->Reserve(allocator_.get(), bytes);
    if (memory != nullptr) return memory;
  } catch (const std::exception& error) {  // how ONNX Runtime's allocators say that there is none
    reason = error.what();
  }
  rulebook::ThrowTooLarge("no memory for ", bytes, " bytes of ", what, " on cuda:", device_,
                          reason.empty() ? "" : ": ", reason);
}

void DeviceMemory::Free(void* memory) noexcept { allocator_->Free(allocator_.get(), memory); }

}  // namespace voxgate
