// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// A context for hosts that lend nothing.
#include "device.h"

namespace rulebook {
namespace {

using cuda::backend::Check;

class OwnContext final : public CudaContext {
 public:
  explicit OwnContext(int device) {
    Check(cudaSetDevice(device), "device");
    Check(cudaMallocHost(&pinned_, kPinnedBytes), "pinned memory");
    const cudaError_t made = cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking);
    if (made == cudaSuccess) return;
    cudaFreeHost(pinned_);
    Check(made, "stream");
  }
  OwnContext(const OwnContext&) = delete;
  OwnContext& operator=(const OwnContext&) = delete;
  ~OwnContext() override {
    cudaStreamSynchronize(stream_);
    cudaStreamDestroy(stream_);
    cudaFreeHost(pinned_);
  }

  CUstream_st* stream() const override { return stream_; }

  void* Allocate(size_t bytes) override {
    void* memory = nullptr;
    Check(cudaMallocAsync(&memory, bytes, stream_), "scratch memory");
    return memory;
  }
  void Release(void* memory) noexcept override { cudaFreeAsync(memory, stream_); }

  void* pinned() override { return pinned_; }

 private:
  cudaStream_t stream_ = nullptr;
  void* pinned_ = nullptr;
};

}  // namespace

std::unique_ptr<CudaContext> MakeCudaContext(int device) {
  const int devices = CudaDeviceCount();
  if (device < 0 || device >= devices) {
    ThrowInvalid("device: cuda:", device, ", but this host has ", devices, " CUDA devices");
  }
  return std::make_unique<OwnContext>(device);
}

int CudaDeviceCount() noexcept {
  int devices = 0;
  if (cudaGetDeviceCount(&devices) == cudaSuccess) return devices;
  cudaGetLastError();  // no driver is no error
  return 0;
}

}  // namespace rulebook
