// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// One element from 16 bits to float32 and back, in integer operations that compilers vectorise. The
// bits are those of the processor's own conversions (vcvtph2ps, vcvtps2ph): nearest, ties to even,
// too large is infinite, NaN keeps its sign and upper digits and becomes quiet. Unnamed namespace:
// see convolution_kernels.h.
#pragma once

#include <cstdint>
#include <cstring>

#include "rulebook/half.h"

namespace rulebook::cpu {
namespace {

inline uint32_t BitsOf(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

inline float FloatOf(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

constexpr uint32_t kQuiet = 0x400000;  // of a float32 NaN

inline float ToFloat(float value) { return value; }

inline float ToFloat(Float16 value) {
  constexpr uint32_t kBias = (127 - 15) << 23;
  const uint32_t magnitude = value.bits & 0x7FFFU;
  const uint32_t sign = (value.bits & 0x8000U) << 16;
  const uint32_t subnormal =
      BitsOf(static_cast<float>(static_cast<int32_t>(magnitude)) * 5.9604645e-8F);  // 2^-24
  uint32_t bits = magnitude < 0x400 ? subnormal : (magnitude << 13) + kBias;
  bits += magnitude >= 0x7C00 ? kBias : 0;
  bits |= magnitude > 0x7C00 ? kQuiet : 0;
  return FloatOf(bits | sign);
}

inline float ToFloat(BFloat16 value) { return FloatOf(uint32_t{value.bits} << 16); }

template <typename T>
inline T FromFloat(float value);

template <>
inline float FromFloat<float>(float value) {
  return value;
}

template <>
inline Float16 FromFloat<Float16>(float value) {
  constexpr uint32_t kBias = (127 - 15) << 23;
  constexpr uint32_t kSmallestNormal = (127 - 14) << 23;  // 2^-14
  constexpr uint32_t kTooLarge = (127 + 16) << 23;        // 2^16; below it rounding may carry over
  constexpr uint32_t kInfinity = 0x7F800000;
  const uint32_t magnitude = BitsOf(value) & 0x7FFFFFFFU;
  const uint32_t sign = (BitsOf(value) >> 16) & 0x8000U;
  const uint32_t normal = (magnitude - kBias + 0xFFF + ((magnitude >> 13) & 1)) >> 13;
  // The last digit of 0.5 is 2^-24, which is a subnormal's: the addition rounds to it.
  const uint32_t subnormal = BitsOf(FloatOf(magnitude) + 0.5F) - BitsOf(0.5F);
  uint32_t bits = magnitude < kSmallestNormal ? subnormal : normal;
  bits = magnitude >= kTooLarge ? 0x7C00 : bits;
  bits = magnitude > kInfinity ? 0x7E00 | ((magnitude >> 13) & 0x3FF) : bits;
  return {static_cast<uint16_t>(bits | sign)};
}

template <>
inline BFloat16 FromFloat<BFloat16>(float value) {
  const uint32_t bits = BitsOf(value);
  const uint32_t rounded = bits + 0x7FFF + ((bits >> 16) & 1);
  const bool is_nan = (bits & 0x7FFFFFFFU) > 0x7F800000;
  return {static_cast<uint16_t>((is_nan ? bits | kQuiet : rounded) >> 16)};
}

template <typename T>
inline void WidenAll(const T* __restrict source, int64_t count, float* __restrict out) {
  for (int64_t i = 0; i < count; ++i) out[i] = ToFloat(source[i]);
}

template <typename T>
inline void NarrowAll(const float* __restrict source, int64_t count, T* __restrict out) {
  for (int64_t i = 0; i < count; ++i) out[i] = FromFloat<T>(source[i]);
}

}  // namespace
}  // namespace rulebook::cpu
