// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// cuda_fp16.h and cuda_bf16.h, whose host side lacks most of this. Each operation is carried out in
// double and rounded once, to the nearest and ties to even.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

namespace cuda_emulation {

// A value of a binary format with `exponent` and `mantissa` bits, as bits.
uint16_t RoundToBits(double value, int exponent, int mantissa);
float HalfFromBits(uint16_t bits);

}  // namespace cuda_emulation

struct alignas(2) __half {
  uint16_t bits;
};
struct alignas(2) __nv_bfloat16 {
  uint16_t bits;
};
struct alignas(4) __half2 {
  __half x, y;
};
struct alignas(4) __nv_bfloat162 {
  __nv_bfloat16 x, y;
};
using half = __half;
using half2 = __half2;
using nv_bfloat16 = __nv_bfloat16;
using nv_bfloat162 = __nv_bfloat162;

namespace cuda_emulation {

inline double Value(__half value) { return HalfFromBits(value.bits); }
inline double Value(__nv_bfloat16 value) {
  const uint32_t bits = uint32_t{value.bits} << 16U;
  float result = 0.0F;
  std::memcpy(&result, &bits, sizeof result);
  return result;
}
template <typename T>
T Rounded(double value);
template <>
inline __half Rounded<__half>(double value) {
  return {RoundToBits(value, 5, 10)};
}
template <>
inline __nv_bfloat16 Rounded<__nv_bfloat16>(double value) {
  return {RoundToBits(value, 8, 7)};
}

}  // namespace cuda_emulation

inline float __half2float(__half value) { return static_cast<float>(cuda_emulation::Value(value)); }
inline __half __float2half_rn(float value) { return cuda_emulation::Rounded<__half>(value); }
inline __half __float2half(float value) { return __float2half_rn(value); }
inline float __bfloat162float(__nv_bfloat16 value) {
  return static_cast<float>(cuda_emulation::Value(value));
}
inline __nv_bfloat16 __float2bfloat16_rn(float value) {
  return cuda_emulation::Rounded<__nv_bfloat16>(value);
}
inline __nv_bfloat16 __float2bfloat16(float value) { return __float2bfloat16_rn(value); }

inline uint16_t __half_as_ushort(__half value) { return value.bits; }
inline __half __ushort_as_half(uint16_t bits) { return {bits}; }
inline uint16_t __bfloat16_as_ushort(__nv_bfloat16 value) { return value.bits; }
inline __nv_bfloat16 __ushort_as_bfloat16(uint16_t bits) { return {bits}; }

inline __half2 __halves2half2(__half x, __half y) { return {x, y}; }
inline __half __low2half(__half2 value) { return value.x; }
inline __half __high2half(__half2 value) { return value.y; }
inline __half2 __floats2half2_rn(float x, float y) {
  return {__float2half_rn(x), __float2half_rn(y)};
}
inline __nv_bfloat162 __halves2bfloat162(__nv_bfloat16 x, __nv_bfloat16 y) { return {x, y}; }
inline __nv_bfloat16 __low2bfloat16(__nv_bfloat162 value) { return value.x; }
inline __nv_bfloat16 __high2bfloat16(__nv_bfloat162 value) { return value.y; }
inline __nv_bfloat162 __floats2bfloat162_rn(float x, float y) {
  return {__float2bfloat16_rn(x), __float2bfloat16_rn(y)};
}

// The same for both types: __hadd, __hsub, __hmul, __hfma and comparisons; NaN compares false.
#define VOXGATE_EMULATED_ARITHMETIC(T)                                                           \
  inline T __hadd(T a, T b) {                                                                    \
    return cuda_emulation::Rounded<T>(cuda_emulation::Value(a) + cuda_emulation::Value(b));      \
  }                                                                                              \
  inline T __hsub(T a, T b) {                                                                    \
    return cuda_emulation::Rounded<T>(cuda_emulation::Value(a) - cuda_emulation::Value(b));      \
  }                                                                                              \
  inline T __hmul(T a, T b) {                                                                    \
    return cuda_emulation::Rounded<T>(cuda_emulation::Value(a) * cuda_emulation::Value(b));      \
  }                                                                                              \
  inline T __hfma(T a, T b, T c) {                                                               \
    return cuda_emulation::Rounded<T>(                                                           \
        std::fma(cuda_emulation::Value(a), cuda_emulation::Value(b), cuda_emulation::Value(c))); \
  }                                                                                              \
  inline bool __heq(T a, T b) { return cuda_emulation::Value(a) == cuda_emulation::Value(b); }   \
  inline bool __hlt(T a, T b) { return cuda_emulation::Value(a) < cuda_emulation::Value(b); }    \
  inline bool __hgt(T a, T b) { return cuda_emulation::Value(a) > cuda_emulation::Value(b); }    \
  inline bool __hisnan(T a) { return std::isnan(cuda_emulation::Value(a)); }
VOXGATE_EMULATED_ARITHMETIC(__half)
VOXGATE_EMULATED_ARITHMETIC(__nv_bfloat16)
#undef VOXGATE_EMULATED_ARITHMETIC
