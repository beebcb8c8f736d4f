// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// cuda_host.h on CUDA.
#include "device.h"
#include "rulebook/cuda_host.h"

namespace rulebook {

using cuda::backend::Check;

CudaDeviceScope::CudaDeviceScope(int device) {
  Check(cudaGetDevice(&before_), "device");
  changed_ = before_ != device;
  if (changed_) Check(cudaSetDevice(device), "device");
}

CudaDeviceScope::~CudaDeviceScope() {
  if (changed_) cudaSetDevice(before_);
}

CudaStream::CudaStream() {
  Check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "stream");
}

CudaStream::~CudaStream() { cudaStreamDestroy(stream_); }

void CudaStream::Wait() const { cuda::backend::Wait(stream_); }

PinnedMemory::PinnedMemory(size_t bytes) {
  Check(cudaHostAlloc(&memory_, bytes, cudaHostAllocPortable), "pinned memory");
}

PinnedMemory::~PinnedMemory() { cudaFreeHost(memory_); }

CudaInterval::CudaInterval() {
  Check(cudaEventCreate(&start_), "event");
  const cudaError_t made = cudaEventCreate(&stop_);
  if (made == cudaSuccess) return;
  cudaEventDestroy(start_);
  Check(made, "event");
}

CudaInterval::~CudaInterval() {
  cudaEventDestroy(start_);
  cudaEventDestroy(stop_);
}

void CudaInterval::Start(CUstream_st* stream) noexcept {
  recorded_ = cudaEventRecord(start_, stream) == cudaSuccess;
}

void CudaInterval::Stop(CUstream_st* stream) noexcept {
  recorded_ = recorded_ && cudaEventRecord(stop_, stream) == cudaSuccess;
}

bool CudaInterval::Finished(uint64_t* nanoseconds) const noexcept {
  *nanoseconds = 0;
  if (!recorded_) return true;
  const cudaError_t status = cudaEventQuery(stop_);
  if (status == cudaErrorNotReady) {
    cudaGetLastError();  // the next launch must not report it
    return false;
  }
  float milliseconds = 0.0F;
  if (status == cudaSuccess && cudaEventElapsedTime(&milliseconds, start_, stop_) == cudaSuccess) {
    *nanoseconds = static_cast<uint64_t>(static_cast<double>(milliseconds) * 1e6);
  }
  return true;
}

void CopyOnStream(CUstream_st* stream, void* to, const void* from, size_t bytes) {
  if (bytes > 0) cuda::backend::CopyOnDevice(stream, to, from, bytes);
}

}  // namespace rulebook
