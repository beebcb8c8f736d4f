// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// cuda_host.h on CUDA.
#include <cuda.h>

#include "device.h"
#include "rulebook/cuda_host.h"

namespace rulebook {

using cuda::backend::Check;

namespace {

// Whether a call that may fail has not; one that has must not fail the next.
bool Succeeded(cudaError_t status) {
  if (status != cudaSuccess) cudaGetLastError();
  return status == cudaSuccess;
}

// Functions of the driver, from the runtime: a host without a driver loads this library, too.
struct Driver {
  decltype(&cuCtxGetCurrent) get_context;
  decltype(&cuCtxSetCurrent) set_context;
};

template <typename Function>
void Find(const char* name, Function* function) {
  void* found = nullptr;
  cudaDriverEntryPointQueryResult result = cudaDriverEntryPointSymbolNotFound;
#if CUDART_VERSION >= 12050
  constexpr unsigned kVersion = 4000;  // CUDA 4.0, which brought them
  Check(cudaGetDriverEntryPointByVersion(name, &found, kVersion, cudaEnableDefault, &result), name);
#else
  Check(cudaGetDriverEntryPoint(name, &found, cudaEnableDefault, &result), name);
#endif
  if (result != cudaDriverEntryPointSuccess) ThrowDeviceFailure("the driver has no ", name);
  *function = reinterpret_cast<Function>(found);
}

const Driver& TheDriver() {
  static const Driver driver = [] {
    Driver found{};
    Find("cuCtxGetCurrent", &found.get_context);
    Find("cuCtxSetCurrent", &found.set_context);
    return found;
  }();
  return driver;
}

}  // namespace

CudaDeviceScope::CudaDeviceScope(int device) {
  int current = 0;
  Check(cudaGetDevice(&current), "device");
  if (current == device) return;
  const CUresult status = TheDriver().get_context(&before_);
  if (status != CUDA_SUCCESS) {
    ThrowDeviceFailure("CUDA context: cuCtxGetCurrent gave error ", static_cast<int>(status));
  }
  Check(cudaSetDevice(device), "device");
  changed_ = true;
}

CudaDeviceScope::~CudaDeviceScope() {
  if (changed_) TheDriver().set_context(before_);
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
  recorded_ = Succeeded(cudaEventRecord(start_, stream));
}

void CudaInterval::Stop(CUstream_st* stream) noexcept {
  recorded_ = recorded_ && Succeeded(cudaEventRecord(stop_, stream));
}

bool CudaInterval::Finished(uint64_t* nanoseconds) const noexcept {
  *nanoseconds = 0;
  if (!recorded_) return true;
  const cudaError_t status = cudaEventQuery(stop_);
  float milliseconds = 0.0F;
  if (Succeeded(status) && Succeeded(cudaEventElapsedTime(&milliseconds, start_, stop_))) {
    *nanoseconds = static_cast<uint64_t>(static_cast<double>(milliseconds) * 1e6);
  }
  return status != cudaErrorNotReady;
}

void CopyOnStream(CUstream_st* stream, void* to, const void* from, size_t bytes) {
  if (bytes > 0) cuda::backend::CopyOnDevice(stream, to, from, bytes);
}

}  // namespace rulebook
