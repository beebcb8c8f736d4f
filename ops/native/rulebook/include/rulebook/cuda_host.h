// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// What a host framework that brings its own CudaContext needs of the CUDA runtime. No CUDA header
// is included, so its sources compile where there is no toolkit.
#pragma once

#include <cstddef>
#include <cstdint>

struct CUctx_st;     // CUcontext points to one
struct CUevent_st;   // cudaEvent_t points to one
struct CUstream_st;  // cudaStream_t points to one

namespace rulebook {

// Makes `device` the calling thread's current device until it goes out of scope. A thread that had
// none has none again: to return to device 0, as the runtime would, starts that. Throws Error.
class CudaDeviceScope {
 public:
  explicit CudaDeviceScope(int device);
  ~CudaDeviceScope();
  CudaDeviceScope(const CudaDeviceScope&) = delete;
  CudaDeviceScope& operator=(const CudaDeviceScope&) = delete;

 private:
  CUctx_st* before_ = nullptr;  // of a thread without a device, too
  bool changed_ = false;
};

// A stream of the current device, ordered with no other. Throws Error.
class CudaStream {
 public:
  CudaStream();
  ~CudaStream();
  CudaStream(const CudaStream&) = delete;
  CudaStream& operator=(const CudaStream&) = delete;

  CUstream_st* get() const { return stream_; }
  void Wait() const;

 private:
  CUstream_st* stream_ = nullptr;
};

// Page-locked host memory that every device may copy to. Throws Error.
class PinnedMemory {
 public:
  explicit PinnedMemory(size_t bytes);
  ~PinnedMemory();
  PinnedMemory(const PinnedMemory&) = delete;
  PinnedMemory& operator=(const PinnedMemory&) = delete;

  void* get() const { return memory_; }

 private:
  void* memory_ = nullptr;
};

// The time a stream takes from one point to another, read without waiting for it. Belongs to the
// device that is current when it is made, and wants it current when it is asked or destroyed: on a
// thread that has none yet CUDA starts device 0. Throws Error when it cannot be made; afterwards
// what fails is no interval, for whoever is timed must not fail.
class CudaInterval {
 public:
  CudaInterval();
  ~CudaInterval();
  CudaInterval(const CudaInterval&) = delete;
  CudaInterval& operator=(const CudaInterval&) = delete;

  void Start(CUstream_st* stream) noexcept;
  void Stop(CUstream_st* stream) noexcept;

  // Whether the stream has passed the second point, or never will; then `nanoseconds` is set.
  bool Finished(uint64_t* nanoseconds) const noexcept;

 private:
  CUevent_st* start_ = nullptr;
  CUevent_st* stop_ = nullptr;
  bool recorded_ = false;
};

// Queues a copy within the device.
void CopyOnStream(CUstream_st* stream, void* to, const void* from, size_t bytes);

}  // namespace rulebook
