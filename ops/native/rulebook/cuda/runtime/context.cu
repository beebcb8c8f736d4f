// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// A context for hosts that lend nothing.
#include "device.h"
#include "rulebook/cuda_host.h"

namespace rulebook {
namespace {

using cuda::backend::Check;

// Keeps what is freed. The device's own pool gives it back to the driver whenever the stream is
// waited for, so that the next call would map memory anew.
class MemoryPool {
 public:
  explicit MemoryPool(int device) {
    cudaMemPoolProps properties{};
    properties.allocType = cudaMemAllocationTypePinned;
    properties.location.type = cudaMemLocationTypeDevice;
    properties.location.id = device;
    Check(cudaMemPoolCreate(&pool_, &properties), "memory pool");
    uint64_t kept_bytes = UINT64_MAX;
    const cudaError_t set =
        cudaMemPoolSetAttribute(pool_, cudaMemPoolAttrReleaseThreshold, &kept_bytes);
    if (set == cudaSuccess) return;
    cudaMemPoolDestroy(pool_);
    Check(set, "memory pool");
  }
  ~MemoryPool() { cudaMemPoolDestroy(pool_); }
  MemoryPool(const MemoryPool&) = delete;
  MemoryPool& operator=(const MemoryPool&) = delete;

  void* Allocate(size_t bytes, CUstream_st* stream) {
    void* memory = nullptr;
    Check(cudaMallocFromPoolAsync(&memory, bytes, pool_, stream), "scratch memory");
    return memory;
  }

 private:
  cudaMemPool_t pool_ = nullptr;
};

class OwnContext final : public CudaContext {
 public:
  // `device` is current.
  explicit OwnContext(int device) : pool_(device), pinned_(kPinnedBytes) {}
  ~OwnContext() override { cudaStreamSynchronize(stream_.get()); }
  OwnContext(const OwnContext&) = delete;
  OwnContext& operator=(const OwnContext&) = delete;

  CUstream_st* stream() const override { return stream_.get(); }
  void* Allocate(size_t bytes) override { return pool_.Allocate(bytes, stream()); }
  void Release(void* memory) noexcept override { cudaFreeAsync(memory, stream()); }
  void* pinned() override { return pinned_.get(); }

 private:
  MemoryPool pool_;
  PinnedMemory pinned_;
  CudaStream stream_;
};

}  // namespace

std::unique_ptr<CudaContext> MakeCudaContext(int device) {
  const int devices = CudaDeviceCount();
  if (device < 0 || device >= devices) {
    ThrowInvalid("device: cuda:", device, ", but this host has ", devices, " CUDA devices");
  }
  Check(cudaSetDevice(device), "device");
  return std::make_unique<OwnContext>(device);
}

int CudaDeviceCount() noexcept {
  int devices = 0;
  if (cudaGetDeviceCount(&devices) == cudaSuccess) return devices;
  cudaGetLastError();  // no driver is no error
  return 0;
}

}  // namespace rulebook
