// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// Features of every element type. What the CPU backend computes in float32 of 16-bit values,
// rounded once, is what a kernel must give to the bit as long as it keeps the order of summation.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>
#include <vector>

#include "device_support.h"
#include "rulebook/half.h"

namespace support {

// Row counts and channels to sweep over.
#if defined(VOXGATE_EMULATION_THREAD)
inline const std::vector<int64_t> kRowCounts = {0, 1, 19, 700};
#else
inline const std::vector<int64_t> kRowCounts = {0, 1, 19, 989, 5000};
#endif
inline const std::vector<int64_t> kChannelCounts = {1, 3, 4, 5, 16, 20, 64};

template <typename To, typename From>
To BitCast(const From& from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(static_cast<void*>(&to), static_cast<const void*>(&from), sizeof to);
  return to;
}

template <typename T>
T Rounded(float value) {
  if constexpr (std::is_same_v<T, rulebook::Float16>) {
    return BitCast<T>(__float2half_rn(value));
  } else if constexpr (std::is_same_v<T, rulebook::BFloat16>) {
    return BitCast<T>(__float2bfloat16_rn(value));
  } else {
    return value;
  }
}

template <typename T>
float Widened(T value) {
  if constexpr (std::is_same_v<T, rulebook::Float16>) {
    return __half2float(BitCast<__half>(value));
  } else if constexpr (std::is_same_v<T, rulebook::BFloat16>) {
    return __bfloat162float(BitCast<__nv_bfloat16>(value));
  } else {
    return value;
  }
}

template <typename T>
std::vector<T> RoundAll(const std::vector<float>& values) {
  std::vector<T> rounded;
  for (const float value : values) rounded.push_back(Rounded<T>(value));
  return rounded;
}

template <typename T>
std::vector<float> WidenAll(const std::vector<T>& values) {
  std::vector<float> widened;
  for (const T value : values) widened.push_back(Widened(value));
  return widened;
}

template <typename T>
std::vector<T> RandomElements(int64_t count, uint64_t seed) {
  return RoundAll<T>(Random(seed).Floats(count));
}

template <typename T>
bool IsNan(T value) {
  if constexpr (std::is_integral_v<T>) {
    return false;
  } else {
    const float widened = Widened(value);
    return widened != widened;
  }
}

// 0 is not -0, but any NaN equals any other: which one a sum has is each device's own.
template <typename T>
bool SameBytes(const std::vector<T>& a, const std::vector<T>& b) {
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); ++i) {
    if (std::memcmp(&a[i], &b[i], sizeof(T)) == 0) continue;
    if (!IsNan(a[i]) || !IsNan(b[i])) return false;
  }
  return true;
}

// Calls body(T{}) for every element type of features.
template <typename Body>
void ForElements(const Body& body) {
  body(float{});
  body(rulebook::Float16{});
  body(rulebook::BFloat16{});
}

}  // namespace support
