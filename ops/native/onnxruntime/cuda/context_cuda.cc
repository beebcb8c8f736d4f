// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#include <mutex>
#include <utility>

#include "context.h"
#include "rulebook/error.h"

namespace voxgate {
namespace {

using rulebook::Device;
using rulebook::PinnedMemory;

// Page-locked memory takes the driver long to get, so it is kept: a piece for each call that reads
// back at the same time as others. Never freed: sessions may end after this library's destructors.
class PinnedPool {
 public:
  std::unique_ptr<PinnedMemory> Take() {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!idle_.empty()) {
      std::unique_ptr<PinnedMemory> taken = std::move(idle_.back());
      idle_.pop_back();
      return taken;
    }
    idle_.reserve(pieces_ + 1);  // GiveBack must not throw
    auto made = std::make_unique<PinnedMemory>(rulebook::CudaContext::kPinnedBytes);
    ++pieces_;
    return made;
  }

  void GiveBack(std::unique_ptr<PinnedMemory> memory) noexcept {
    const std::lock_guard<std::mutex> lock(mutex_);
    idle_.push_back(std::move(memory));
  }

 private:
  std::mutex mutex_;
  size_t pieces_ = 0;  // idle and taken
  std::vector<std::unique_ptr<PinnedMemory>> idle_;
};

PinnedPool& ThePinnedPool() {
  static auto* const pool = new PinnedPool;
  return *pool;
}

}  // namespace

CUstream_st* StreamOf(const OrtKernelContext* kernel) {
  void* stream = nullptr;
  Ort::ThrowOnError(Ort::GetApi().KernelContext_GetGPUComputeStream(kernel, &stream));
  if (stream == nullptr) rulebook::ThrowDeviceFailure("ONNX Runtime lends no CUDA stream");
  return static_cast<CUstream_st*>(stream);
}

ComputeContext<Device::kCuda>::~ComputeContext() {
  if (stack_ != nullptr) scratch_.GiveBack(stream_, std::move(stack_));
  if (pinned_ != nullptr) ThePinnedPool().GiveBack(std::move(pinned_));
}

void* ComputeContext<Device::kCuda>::Allocate(size_t bytes) {
  if (stack_ == nullptr) stack_ = scratch_.Take(stream_);
  return stack_->Push(bytes);
}

void* ComputeContext<Device::kCuda>::pinned() {
  if (pinned_ == nullptr) pinned_ = ThePinnedPool().Take();
  return pinned_->get();
}

bool ComputeContext<Device::kCuda>::use_tf32() const {
  // CudaResource::use_tf32_t of cuda_resource.h, which Debian's headers lack.
  constexpr int kVersion = 3;
  constexpr int kUseTf32 = 10011;
  void* value = nullptr;
  const Ort::Status status(
      Ort::GetApi().KernelContext_GetResource(kernel_, kVersion, kUseTf32, &value));
  return status.IsOK() && value != nullptr;  // before 1.20 there was no such option
}

SetupContext<Device::kCuda>::SetupContext(const OrtKernelInfo* info)
    : memory_(info),
      current_(std::make_unique<rulebook::CudaDeviceScope>(memory_.device())),
      stream_(std::make_unique<rulebook::CudaStream>()) {}

void SetupContext<Device::kCuda>::Finish() {
  stream_->Wait();
  if (pinned_ != nullptr) ThePinnedPool().GiveBack(std::move(pinned_));
  stream_.reset();
  current_.reset();
}

void* SetupContext<Device::kCuda>::pinned() {
  if (pinned_ == nullptr) pinned_ = ThePinnedPool().Take();
  return pinned_->get();
}

}  // namespace voxgate
