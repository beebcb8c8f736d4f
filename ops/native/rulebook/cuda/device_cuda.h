// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// device.h on CUDA. Included by it alone.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_pipeline.h>
#include <cuda_runtime.h>
#include <mma.h>

#include <cstddef>
#include <cstdint>

#include "rulebook/error.h"

// 32 bytes: what wmma's loads and stores need.
#define VOXGATE_SHARED(type, name, dims) __shared__ __align__(32) type name dims
#define VOXGATE_DYNAMIC_SHARED(type, name)                                 \
  extern __shared__ __align__(128) unsigned char voxgate_dynamic_shared[]; \
  type* name = reinterpret_cast<type*>(voxgate_dynamic_shared)

namespace rulebook::cuda {

namespace internal {

template <size_t kBytes, bool kSigned>
struct AtomicWord;
template <>
struct AtomicWord<4, true> {
  using Type = int;
};
template <>
struct AtomicWord<4, false> {
  using Type = unsigned int;
};
template <>
struct AtomicWord<8, true> {
  using Type = long long;  // NOLINT(google-runtime-int): CUDA's own name of it
};
template <>
struct AtomicWord<8, false> {
  using Type = unsigned long long;  // NOLINT(google-runtime-int): CUDA's own name of it
};

// CUDA's atomics name int, unsigned, long long and unsigned long long; int64_t is none of them.
template <typename T>
using Word = typename AtomicWord<sizeof(T), std::is_signed_v<T>>::Type;
template <typename T>
using UnsignedWord = typename AtomicWord<sizeof(T), false>::Type;

}  // namespace internal

template <typename T>
__device__ inline T AtomicAdd(T* p, T value) {
  using Word = internal::UnsignedWord<T>;
  return static_cast<T>(atomicAdd(reinterpret_cast<Word*>(p), static_cast<Word>(value)));
}

template <typename T>
__device__ inline T AtomicMin(T* p, T value) {
  using Word = internal::Word<T>;
  return static_cast<T>(atomicMin(reinterpret_cast<Word*>(p), static_cast<Word>(value)));
}

template <typename T>
__device__ inline T AtomicMax(T* p, T value) {
  using Word = internal::Word<T>;
  return static_cast<T>(atomicMax(reinterpret_cast<Word*>(p), static_cast<Word>(value)));
}

template <typename T>
__device__ inline T AtomicOr(T* p, T value) {
  using Word = internal::UnsignedWord<T>;
  return static_cast<T>(atomicOr(reinterpret_cast<Word*>(p), static_cast<Word>(value)));
}

template <typename T>
__device__ inline T AtomicExchange(T* p, T value) {
  using Word = internal::UnsignedWord<T>;
  return static_cast<T>(atomicExch(reinterpret_cast<Word*>(p), static_cast<Word>(value)));
}

template <typename T>
__device__ inline T AtomicCompareExchange(T* p, T expected, T desired) {
  using Word = internal::UnsignedWord<T>;
  return static_cast<T>(atomicCAS(reinterpret_cast<Word*>(p), static_cast<Word>(expected),
                                  static_cast<Word>(desired)));
}

template <typename T>
__device__ inline T LoadVolatile(const T* p) {
  return *static_cast<const volatile T*>(p);
}

template <typename T>
__device__ inline void StoreVolatile(T* p, T value) {
  *static_cast<volatile T*>(p) = value;
}

namespace backend {

inline void Check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // a failed call must not fail the next one
  if (status == cudaErrorMemoryAllocation) {
    ThrowTooLarge("CUDA ", what, ": ", cudaGetErrorString(status));
  }
  ThrowDeviceFailure("CUDA ", what, ": ", cudaGetErrorName(status), ": ",
                     cudaGetErrorString(status));
}

inline DeviceTraits CurrentDevice() {
  int device = 0;
  int major = 0;
  int minor = 0;
  DeviceTraits traits;
  Check(cudaGetDevice(&device), "current device");
  const auto get = [&](cudaDeviceAttr attribute, int* value) {
    Check(cudaDeviceGetAttribute(value, attribute, device), "device attribute");
  };
  get(cudaDevAttrMultiProcessorCount, &traits.multiprocessors);
  get(cudaDevAttrComputeCapabilityMajor, &major);
  get(cudaDevAttrComputeCapabilityMinor, &minor);
  traits.generation = 10 * major + minor;
  return traits;
}

template <typename... Parameters>
void Launch(CUstream_st* stream, const LaunchShape& shape, void (*kernel)(Parameters...),
            Parameters... arguments) {
  constexpr size_t kSharedBytesOfAnyKernel = 48 * 1024;
  if (shape.shared_bytes > kSharedBytesOfAnyKernel) {
    Check(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                               cudaFuncAttributeMaxDynamicSharedMemorySize,
                               static_cast<int>(shape.shared_bytes)),
          "shared memory");
  }
  const dim3 blocks(static_cast<unsigned>(shape.blocks_x), static_cast<unsigned>(shape.blocks_y),
                    static_cast<unsigned>(shape.blocks_z));
  const dim3 threads(static_cast<unsigned>(shape.threads));
  void* addresses[] = {const_cast<void*>(static_cast<const void*>(&arguments))..., nullptr};
  Check(cudaLaunchKernel(reinterpret_cast<const void*>(kernel), blocks, threads, addresses,
                         shape.shared_bytes, stream),
        "launch");
}

inline void CopyOnDevice(CUstream_st* stream, void* to, const void* from, size_t bytes) {
  Check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream), "copy");
}

inline void CopyToDevice(CUstream_st* stream, void* to, const void* from, size_t bytes) {
  Check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, stream), "copy to the device");
}

inline void CopyToHost(CUstream_st* stream, void* to, const void* from, size_t bytes) {
  Check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, stream), "copy to the host");
}

inline void FillBytes(CUstream_st* stream, void* memory, int byte, size_t bytes) {
  Check(cudaMemsetAsync(memory, byte, bytes, stream), "fill");
}

inline void Wait(CUstream_st* stream) { Check(cudaStreamSynchronize(stream), "wait"); }

}  // namespace backend
}  // namespace rulebook::cuda
