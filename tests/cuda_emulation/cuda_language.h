// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// CUDA C++ for a C++ compiler: the part of the language and its functions that kernels of this
// project may use. What is not here does not compile in emulation, on purpose: no __shared__ beside
// the macros of device.h, no atomicAdd of floats (its order is no order), no CUB and no cooperative
// groups inside kernels.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "emulator.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(bytes) alignas(bytes)

// --- vectors ------------------------------------------------------------------------------------

struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x, y, z;
  constexpr explicit dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1)
      : x(x_), y(y_), z(z_) {}
};
struct alignas(8) int2 {
  int x, y;
};
struct alignas(16) int4 {
  int x, y, z, w;
};
struct alignas(8) uint2 {
  unsigned x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
struct alignas(8) float2 {
  float x, y;
};
struct float3 {
  float x, y, z;
};
struct alignas(16) float4 {
  float x, y, z, w;
};

constexpr int2 make_int2(int x, int y) { return {x, y}; }
constexpr int4 make_int4(int x, int y, int z, int w) { return {x, y, z, w}; }
constexpr uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
constexpr uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
constexpr float2 make_float2(float x, float y) { return {x, y}; }
constexpr float3 make_float3(float x, float y, float z) { return {x, y, z}; }
constexpr float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

// --- where a thread is --------------------------------------------------------------------------

extern __thread uint3 threadIdx;
extern __thread uint3 blockIdx;
extern __thread dim3 blockDim;
extern __thread dim3 gridDim;
constexpr int warpSize = 32;

// --- barriers and fences ------------------------------------------------------------------------

inline void __syncthreads() { cuda_emulation::BlockBarrier(false); }
inline int __syncthreads_count(int predicate) {
  return cuda_emulation::BlockBarrier(predicate != 0).count;
}
inline int __syncthreads_or(int predicate) {
  return cuda_emulation::BlockBarrier(predicate != 0).count > 0 ? 1 : 0;
}
inline int __syncthreads_and(int predicate) {
  const cuda_emulation::Votes votes = cuda_emulation::BlockBarrier(predicate != 0);
  return votes.count == votes.threads ? 1 : 0;
}
inline void __syncwarp(unsigned mask = 0xFFFFFFFFU) {
  cuda_emulation::WarpExchange(cuda_emulation::WarpOperation::kSync, mask, 0, 0);
}
inline void __threadfence() { cuda_emulation::Fence(); }
inline void __threadfence_block() { cuda_emulation::Fence(); }

// --- warps --------------------------------------------------------------------------------------

namespace cuda_emulation {

template <typename T>
uint64_t ToWord(T value) {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= sizeof(uint64_t));
  uint64_t word = 0;
  std::memcpy(&word, &value, sizeof value);
  return word;
}

template <typename T>
T FromWord(uint64_t word) {
  T value;
  std::memcpy(&value, &word, sizeof value);
  return value;
}

inline int Lane() { return static_cast<int>(threadIdx.x % 32); }

// From `source` if it lies in this lane's segment of `width`, else this lane's own value.
template <typename T>
T Shuffle(unsigned mask, T value, int source, int width) {
  const int begin = Lane() / width * width;
  const bool inside = source >= begin && source < begin + width;
  return FromWord<T>(WarpExchange(WarpOperation::kShuffle, mask, ToWord(value),
                                  static_cast<uint64_t>(inside ? source : Lane())));
}

template <typename T>
T Reduce(WarpOperation operation, unsigned mask, T value) {
  // Sign-extends an int, so that one comparison serves both types.
  const auto wide = static_cast<uint64_t>(static_cast<int64_t>(value));
  return static_cast<T>(WarpExchange(operation, mask, wide, 0));
}

}  // namespace cuda_emulation

template <typename T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32) {
  const int begin = cuda_emulation::Lane() / width * width;
  return cuda_emulation::Shuffle(mask, value, begin + source % width, width);
}
template <typename T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32) {
  return cuda_emulation::Shuffle(mask, value, cuda_emulation::Lane() - static_cast<int>(delta),
                                 width);
}
template <typename T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32) {
  return cuda_emulation::Shuffle(mask, value, cuda_emulation::Lane() + static_cast<int>(delta),
                                 width);
}
template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = 32) {
  return cuda_emulation::Shuffle(mask, value, cuda_emulation::Lane() ^ lanes, width);
}

inline unsigned __ballot_sync(unsigned mask, int predicate) {
  return static_cast<unsigned>(cuda_emulation::WarpExchange(cuda_emulation::WarpOperation::kBallot,
                                                            mask, predicate != 0 ? 1 : 0, 0));
}
inline int __any_sync(unsigned mask, int predicate) {
  return __ballot_sync(mask, predicate) != 0 ? 1 : 0;
}
inline int __all_sync(unsigned mask, int predicate) {
  return __ballot_sync(mask, predicate) == mask ? 1 : 0;
}
template <typename T>
unsigned __match_any_sync(unsigned mask, T value) {
  return static_cast<unsigned>(cuda_emulation::WarpExchange(
      cuda_emulation::WarpOperation::kMatchAny, mask, cuda_emulation::ToWord(value), 0));
}

inline unsigned __reduce_add_sync(unsigned mask, unsigned value) {
  return cuda_emulation::Reduce(cuda_emulation::WarpOperation::kReduceAdd, mask, value);
}
inline int __reduce_add_sync(unsigned mask, int value) {
  return cuda_emulation::Reduce(cuda_emulation::WarpOperation::kReduceAdd, mask, value);
}
inline unsigned __reduce_min_sync(unsigned mask, unsigned value) {
  return cuda_emulation::Reduce(cuda_emulation::WarpOperation::kReduceMin, mask, value);
}
inline int __reduce_min_sync(unsigned mask, int value) {
  return cuda_emulation::Reduce(cuda_emulation::WarpOperation::kReduceMin, mask, value);
}
inline unsigned __reduce_max_sync(unsigned mask, unsigned value) {
  return cuda_emulation::Reduce(cuda_emulation::WarpOperation::kReduceMax, mask, value);
}
inline int __reduce_max_sync(unsigned mask, int value) {
  return cuda_emulation::Reduce(cuda_emulation::WarpOperation::kReduceMax, mask, value);
}
inline unsigned __reduce_and_sync(unsigned mask, unsigned value) {
  return cuda_emulation::Reduce(cuda_emulation::WarpOperation::kReduceAnd, mask, value);
}
inline unsigned __reduce_or_sync(unsigned mask, unsigned value) {
  return cuda_emulation::Reduce(cuda_emulation::WarpOperation::kReduceOr, mask, value);
}

// --- integers -----------------------------------------------------------------------------------

inline int __popc(unsigned value) { return __builtin_popcount(value); }
inline int __popcll(uint64_t value) { return __builtin_popcountll(value); }
inline int __ffs(int value) { return __builtin_ffs(value); }
inline int __ffsll(int64_t value) { return __builtin_ffsll(value); }
inline int __clz(int value) {
  return value == 0 ? 32 : __builtin_clz(static_cast<unsigned>(value));
}
inline int __clzll(int64_t value) {
  return value == 0 ? 64 : __builtin_clzll(static_cast<uint64_t>(value));
}

template <typename T>
T __ldg(const T* p) {
  return *p;
}

// --- floats -------------------------------------------------------------------------------------

inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline float rsqrtf(float value) { return 1.0F / std::sqrt(value); }
inline unsigned __float_as_uint(float value) {
  return cuda_emulation::FromWord<unsigned>(cuda_emulation::ToWord(value));
}
inline int __float_as_int(float value) { return static_cast<int>(__float_as_uint(value)); }
inline float __uint_as_float(unsigned value) {
  return cuda_emulation::FromWord<float>(cuda_emulation::ToWord(value));
}
inline float __int_as_float(int value) { return __uint_as_float(static_cast<unsigned>(value)); }

#include "half.h"
#include "pipeline.h"
#include "wmma.h"
