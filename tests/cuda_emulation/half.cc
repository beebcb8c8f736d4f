// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#include "half.h"

#include <cmath>
#include <limits>

namespace cuda_emulation {

uint16_t RoundToBits(double value, int exponent, int mantissa) {
  const uint16_t sign = std::signbit(value) ? 0x8000U : 0U;
  const auto largest = static_cast<uint16_t>(((1U << static_cast<unsigned>(exponent)) - 1U)
                                             << static_cast<unsigned>(mantissa));  // infinity
  if (std::isnan(value)) return 0x7FFFU;
  if (value == 0.0) return sign;
  const int bias = (1 << (exponent - 1)) - 1;
  int power = 0;
  std::frexp(std::fabs(value), &power);  // in [2^(power - 1), 2^power)
  // In units of the last place; the smallest normal exponent's also serves subnormal values.
  const int unit = (power - 1 < 1 - bias ? 1 - bias : power - 1) - mantissa;
  const double units = std::nearbyint(std::ldexp(std::fabs(value), -unit));
  // A carry out of the mantissa goes into the exponent by itself.
  const double bits = units + std::ldexp(static_cast<double>(unit + mantissa + bias - 1), mantissa);
  if (bits >= largest) return static_cast<uint16_t>(sign | largest);
  return static_cast<uint16_t>(sign | static_cast<uint16_t>(bits));
}

float HalfFromBits(uint16_t bits) {
  const unsigned fraction = bits & 0x3FFU;
  const unsigned power = bits >> 10U & 0x1FU;
  const float sign = (bits & 0x8000U) != 0 ? -1.0F : 1.0F;
  if (power == 0x1FU) {
    return fraction != 0 ? std::numeric_limits<float>::quiet_NaN()
                         : sign * std::numeric_limits<float>::infinity();
  }
  if (power == 0) return sign * static_cast<float>(fraction) * 0x1p-24F;
  return sign * std::ldexp(static_cast<float>(fraction | 0x400U), static_cast<int>(power) - 25);
}

}  // namespace cuda_emulation
