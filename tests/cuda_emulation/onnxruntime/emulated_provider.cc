// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// ONNX Runtime with a CUDA provider that is emulated. The operator library, as it is, gets a table
// of functions in which those that only the CUDA provider can answer are the emulator's, and its
// CUDA operators are handed on as the CPU provider's, its CPU operators not at all. Device memory
// is host memory, of the exact size asked for.
#include <onnxruntime_cxx_api.h>

#include <cstring>
#include <vector>

#include "rulebook/error.h"
#include "thread_stream.h"

extern "C" OrtStatus* RegisterVoxgateOperators(OrtSessionOptions* options, const OrtApiBase* base);

namespace {

using cuda_emulation::ThreadContext;

const OrtApi* real = nullptr;
const OrtApiBase* real_base = nullptr;

// One session's memory is as good as another's here.
struct EmulatedAllocator final : OrtAllocator {
  EmulatedAllocator() : OrtAllocator{} {
    version = ORT_API_VERSION;
    Alloc = Reserve = [](OrtAllocator* /*self*/, size_t bytes) -> void* {
      return ThreadContext().Allocate(bytes);
    };
    Free = [](OrtAllocator* /*self*/, void* memory) { ThreadContext().Release(memory); };
    Info = [](const OrtAllocator* self) -> const OrtMemoryInfo* {
      return static_cast<const EmulatedAllocator*>(self)->info;
    };
    Ort::ThrowOnError(real->CreateCpuMemoryInfo(OrtDeviceAllocator, OrtMemTypeDefault, &info));
  }

  OrtMemoryInfo* info = nullptr;
};

OrtAllocator* Allocator() {
  static auto* const allocator = new EmulatedAllocator;
  return allocator;
}

OrtStatus* GetAllocator(const OrtKernelInfo* /*info*/, OrtMemType /*type*/,
                        OrtAllocator** allocator) noexcept {
  *allocator = Allocator();
  return nullptr;
}

void ReleaseAllocator(OrtAllocator* /*allocator*/) noexcept {}

OrtStatus* GetStream(const OrtKernelContext* /*context*/, void** stream) noexcept {
  *stream = ThreadContext().stream();
  return nullptr;
}

OrtStatus* GetResource(const OrtKernelContext* /*context*/, int /*version*/, int /*id*/,
                       void** resource) noexcept {
  *resource = nullptr;  // use_tf32: off
  return nullptr;
}

OrtStatus* AddOperator(OrtCustomOpDomain* domain, const OrtCustomOp* op) noexcept {
  if (op->GetExecutionProviderType(op) == nullptr) {
    static auto* const kept =
        new std::vector<const OrtCustomOp*>;  // so that no one calls it a leak
    kept->push_back(op);
    return nullptr;
  }
  // The library made it, and not const.
  const_cast<OrtCustomOp*>(op)->GetExecutionProviderType =
      [](const OrtCustomOp* /*self*/) -> const char* { return nullptr; };
  return real->CustomOpDomain_Add(domain, op);
}

// A copy with the emulator's functions. OrtApi says that it is not to be copied by accident.
const OrtApi* EmulatedApi(uint32_t version) noexcept {
  alignas(OrtApi) static unsigned char memory[sizeof(OrtApi)];
  auto* const api = reinterpret_cast<OrtApi*>(memory);
  static const bool made = [api, version] {
    real = real_base->GetApi(version);
    if (real == nullptr) return false;
    std::memcpy(static_cast<void*>(api), static_cast<const void*>(real), sizeof(OrtApi));
    api->KernelInfoGetAllocator = &GetAllocator;
    api->ReleaseAllocator = &ReleaseAllocator;
    api->KernelContext_GetGPUComputeStream = &GetStream;
    api->KernelContext_GetResource = &GetResource;
    api->CustomOpDomain_Add = &AddOperator;
    return true;
  }();
  return made ? api : nullptr;
}

}  // namespace

extern "C" __attribute__((visibility("default"))) OrtStatus* RegisterCustomOps(
    OrtSessionOptions* options, const OrtApiBase* base) {
  real_base = base;
  static const OrtApiBase emulated = {&EmulatedApi, base->GetVersionString};
  return RegisterVoxgateOperators(options, &emulated);
}
