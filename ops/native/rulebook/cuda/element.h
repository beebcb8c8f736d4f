// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// Elements of features inside kernels: the language's types for the library's, and float32 for all
// arithmetic on them.
#pragma once

#include "device.h"
#include "rulebook/half.h"

namespace rulebook::cuda {

template <typename T>
struct NativeOf {
  using Type = T;
};
template <>
struct NativeOf<Float16> {
  using Type = __half;
};
template <>
struct NativeOf<BFloat16> {
  using Type = __nv_bfloat16;
};

template <typename T>
using Native = typename NativeOf<T>::Type;

// The same memory as kernels see it.
template <typename T>
Native<T>* AsNative(T* data) {
  static_assert(sizeof(Native<T>) == sizeof(T));
  return reinterpret_cast<Native<T>*>(data);
}
template <typename T>
const Native<T>* AsNative(const T* data) {
  static_assert(sizeof(Native<T>) == sizeof(T));
  return reinterpret_cast<const Native<T>*>(data);
}

__device__ inline float ToFloat(float value) { return value; }
__device__ inline float ToFloat(__half value) { return __half2float(value); }
__device__ inline float ToFloat(__nv_bfloat16 value) { return __bfloat162float(value); }

// Rounds to the nearest, ties to even.
template <typename T>
__device__ inline T FromFloat(float value);
template <>
__device__ inline float FromFloat<float>(float value) {
  return value;
}
template <>
__device__ inline __half FromFloat<__half>(float value) {
  return __float2half_rn(value);
}
template <>
__device__ inline __nv_bfloat16 FromFloat<__nv_bfloat16>(float value) {
  return __float2bfloat16_rn(value);
}

}  // namespace rulebook::cuda
