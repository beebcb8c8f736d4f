// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// Where a call runs on an NVIDIA GPU: one stream, and the memory of the host framework. Calls queue
// their work and return. Only those that need a count (their `allocate` says how many) wait for the
// stream; no call waits for the device, uses the default stream or calls cudaMalloc.
//
// Pointers to tensors are device pointers. Values in them are looked at on the device only, so what
// is an error on the CPU for a bad value (a neighbor out of range) is here never an access out of
// bounds but otherwise undefined, unless the call reads back anyway and says so.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "rulebook/context.h"

struct CUstream_st;  // cudaStream_t points to one

namespace rulebook {

// A host framework derives from it. The calling thread's current device must be the stream's.
template <>
class Context<Device::kCuda> {
 public:
  static constexpr size_t kPinnedBytes = 4096;
  static constexpr size_t kAlignment = 256;

  virtual ~Context() = default;

  virtual CUstream_st* stream() const = 0;

  // Scratch memory on the device, aligned to kAlignment, for work queued on stream(); bytes > 0.
  // Throws Error (kResourceExhausted) when there is none.
  virtual void* Allocate(size_t bytes) = 0;

  // Work that uses the memory may still be queued: it may be handed out again at once, but only for
  // work on the same stream.
  virtual void Release(void* memory) noexcept = 0;

  // kPinnedBytes of page-locked host memory, for what is read back. One call uses it at a time.
  virtual void* pinned() = 0;

  // Whether SparseConv of float32 may round its factors to tf32 (10 bits of mantissa; sums stay
  // float32) to run on tensor cores.
  virtual bool use_tf32() const { return false; }
};

using CudaContext = Context<Device::kCuda>;

// A context with a stream and a memory pool of its own, for hosts that have none to lend. Makes
// `device` the calling thread's current device. Throws Error when there is no such device.
std::unique_ptr<CudaContext> MakeCudaContext(int device);

// The number of devices that work on this host; 0 where there is no driver.
int CudaDeviceCount() noexcept;

}  // namespace rulebook
