// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// The one header through which this folder speaks to a GPU: what kernels use beside the language
// itself, and everything that host code asks of the device. Compiled by nvcc it is CUDA; compiled
// as plain C++ it is the emulator of tests/cuda_emulation. README.md has the rules.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "rulebook/cuda_context.h"
#include "rulebook/error.h"

namespace rulebook::cuda {

struct LaunchShape {
  int64_t blocks_x = 0;
  int64_t blocks_y = 1;
  int64_t blocks_z = 1;
  int threads = 256;  // along x; a multiple of the warp
  size_t shared_bytes = 0;
};

struct DeviceTraits {
  int multiprocessors = 1;
  int generation = 0;  // 80 for compute capability 8.0
};

}  // namespace rulebook::cuda

#if defined(__CUDACC__)
#include "device_cuda.h"
#else
#include "cuda_emulation.h"
#endif

// Both backends define
//
//   VOXGATE_SHARED(type, name, dims)     an array in the block's shared memory:
//                                        VOXGATE_SHARED(float, tile, [kRows][kColumns]);
//   VOXGATE_DYNAMIC_SHARED(type, name)   a pointer to LaunchShape::shared_bytes of it
//
// and, in namespace rulebook::cuda, for int32_t, uint32_t, int64_t and uint64_t,
//
//   T AtomicAdd(T* p, T value)           relaxed; all return the value before
//   T AtomicMin, AtomicMax, AtomicOr, AtomicExchange(T* p, T value)
//   T AtomicCompareExchange(T* p, T expected, T desired)
//   T LoadVolatile(const T* p)           a word that other threads may be writing
//   void StoreVolatile(T* p, T value)
namespace rulebook::cuda {

constexpr int kWarpSize = 32;
constexpr int kMaxThreads = 1024;     // of a block
constexpr int64_t kMaxGridY = 65535;  // blocks along y and along z

template <typename T>
constexpr T CeilDiv(T a, T b) {
  return (a + b - 1) / b;
}

inline int BitWidth(uint64_t value) {
  int bits = 0;
  for (; value != 0; value >>= 1U) ++bits;
  return bits;
}

// This thread's number along x over the whole grid.
__device__ inline int64_t GlobalThread() {
  return static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}

// One thread for each of `items`, along x.
inline LaunchShape OneThreadEach(int64_t items, int threads = 256) {
  LaunchShape shape;
  shape.blocks_x = CeilDiv<int64_t>(items, threads);
  shape.threads = threads;
  return shape;
}

// Queues kernel(arguments...). A grid without blocks is no launch.
template <typename... Parameters, typename... Arguments>
void Launch(CudaContext& context, const LaunchShape& shape, void (*kernel)(Parameters...),
            const Arguments&... arguments) {
  static_assert(sizeof...(Parameters) == sizeof...(Arguments), "one argument per parameter");
  if (shape.blocks_x <= 0 || shape.blocks_y <= 0 || shape.blocks_z <= 0) return;
  if (shape.threads < kWarpSize || shape.threads > kMaxThreads || shape.threads % kWarpSize != 0 ||
      shape.blocks_x > INT32_MAX || shape.blocks_y > kMaxGridY || shape.blocks_z > kMaxGridY) {
    ThrowDeviceFailure("no launch of ", shape.blocks_x, " x ", shape.blocks_y, " x ",
                       shape.blocks_z, " blocks of ", shape.threads, " threads");
  }
  backend::Launch(context.stream(), shape, kernel, static_cast<Parameters>(arguments)...);
}

// Of the calling thread's current device, which is the context's.
inline DeviceTraits CurrentDevice() { return backend::CurrentDevice(); }

// Copies within the device.
template <typename T>
void Copy(CudaContext& context, T* to, const T* from, int64_t count) {
  static_assert(std::is_trivially_copyable_v<T>);
  if (count <= 0) return;
  backend::CopyOnDevice(context.stream(), to, from, static_cast<size_t>(count) * sizeof(T));
}

// Sets every byte.
template <typename T>
void FillBytes(CudaContext& context, T* memory, int byte, int64_t count) {
  if (count <= 0) return;
  backend::FillBytes(context.stream(), memory, byte, static_cast<size_t>(count) * sizeof(T));
}

// Copies from the host and waits. For setting up, not for the hot path: what a kernel needs per
// call fits its arguments.
template <typename T>
void CopyToDevice(CudaContext& context, T* to, const T* from, int64_t count) {
  static_assert(std::is_trivially_copyable_v<T>);
  if (count <= 0) return;
  backend::CopyToDevice(context.stream(), to, from, static_cast<size_t>(count) * sizeof(T));
  backend::Wait(context.stream());
}

// Waits for the stream and copies to the host, through the context's pinned memory.
template <typename T>
void ReadBack(CudaContext& context, const T* from, int64_t count, T* to) {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= CudaContext::kPinnedBytes);
  constexpr int64_t kChunk = static_cast<int64_t>(CudaContext::kPinnedBytes / sizeof(T));
  for (int64_t begin = 0; begin < count; begin += kChunk) {
    const int64_t size = std::min(kChunk, count - begin);
    T* pinned = static_cast<T*>(context.pinned());
    backend::CopyToHost(context.stream(), pinned, from + begin,
                        static_cast<size_t>(size) * sizeof(T));
    backend::Wait(context.stream());
    std::copy_n(pinned, size, to + begin);
  }
}

template <typename T>
T ReadBack(CudaContext& context, const T* from) {
  T value;
  ReadBack(context, from, 1, &value);
  return value;
}

// `count` elements of scratch memory, null for none; released when it goes out of scope, which the
// work queued until then does not notice.
template <typename T>
class Scratch {
 public:
  Scratch(CudaContext& context, int64_t count) : context_(context) {
    if (count > 0) {
      memory_ = static_cast<T*>(context.Allocate(static_cast<size_t>(count) * sizeof(T)));
    }
  }
  ~Scratch() {
    if (memory_ != nullptr) context_.Release(memory_);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  T* get() const { return memory_; }

 private:
  CudaContext& context_;
  T* memory_ = nullptr;
};

// Sorts `count` pairs by the low `bits` bits of their keys, ascending and stable. Nothing may
// overlap; keys and values are left as they are.
void SortPairs(CudaContext& context, const uint64_t* keys, uint64_t* sorted_keys,
               const int32_t* values, int32_t* sorted_values, int64_t count, int bits = 64);
void SortPairs(CudaContext& context, const uint32_t* keys, uint32_t* sorted_keys,
               const int32_t* values, int32_t* sorted_values, int64_t count, int bits = 32);

// Sorts keys alone; the same otherwise.
void SortKeys(CudaContext& context, const uint64_t* keys, uint64_t* sorted_keys, int64_t count,
              int bits = 64);

// Prefix sums; `sums` may be `values`.
void InclusiveSum(CudaContext& context, const int32_t* values, int32_t* sums, int64_t count);
void ExclusiveSum(CudaContext& context, const int32_t* values, int32_t* sums, int64_t count);

}  // namespace rulebook::cuda
