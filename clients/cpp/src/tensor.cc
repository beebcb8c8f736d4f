// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#include "voxgate_client/tensor.h"

#include <array>
#include <cmath>
#include <cstring>
#include <limits>

#include "text.h"

namespace voxgate {
namespace {

struct Type {
  const char* name;
  size_t width;
};

constexpr std::array<Type, 9> kTypes = {{
    {"float32", 4},
    {"float16", 2},
    {"bfloat16", 2},
    {"int8", 1},
    {"uint8", 1},
    {"int16", 2},
    {"int32", 4},
    {"int64", 8},
    {"bool", 1},
}};

float OfBfloat16(uint16_t bits) {
  const uint32_t wide = uint32_t{bits} << 16;
  float value;
  std::memcpy(&value, &wide, sizeof(value));
  return value;
}

float OfFloat16(uint16_t bits) {
  const int exponent = (bits >> 10) & 0x1F;
  const int fraction = bits & 0x3FF;
  float magnitude;
  if (exponent == 0x1F) {
    magnitude = fraction == 0 ? std::numeric_limits<float>::infinity()
                              : std::numeric_limits<float>::quiet_NaN();
  } else if (exponent == 0) {
    magnitude = std::ldexp(static_cast<float>(fraction), -24);
  } else {
    magnitude = std::ldexp(static_cast<float>(fraction + 0x400), exponent - 25);
  }
  return (bits & 0x8000) != 0 ? -magnitude : magnitude;
}

// The bytes as values of T, each passed through widen.
template <typename T, typename Wide, typename Widen>
std::vector<Wide> Read(const std::string& data, Widen widen) {
  std::vector<Wide> values(data.size() / sizeof(T));
  for (size_t i = 0; i < values.size(); ++i) {
    T value;
    std::memcpy(&value, data.data() + i * sizeof(T), sizeof(T));
    values[i] = widen(value);
  }
  return values;
}

template <typename T>
std::vector<int64_t> ReadIntegers(const std::string& data) {
  return Read<T, int64_t>(data, [](T value) { return static_cast<int64_t>(value); });
}

}  // namespace

const char* Name(DataType dtype) { return kTypes.at(static_cast<size_t>(dtype)).name; }

size_t Width(DataType dtype) { return kTypes.at(static_cast<size_t>(dtype)).width; }

std::vector<float> Tensor::Floats() const {
  switch (dtype) {
    case DataType::kFloat32:
      return Read<float, float>(data, [](float value) { return value; });
    case DataType::kFloat16:
      return Read<uint16_t, float>(data, OfFloat16);
    case DataType::kBfloat16:
      return Read<uint16_t, float>(data, OfBfloat16);
    default:
      ThrowInvalid("output ", name, " is ", Name(dtype),
                   ", no float type: read it with Integers()");
  }
}

std::vector<int64_t> Tensor::Integers() const {
  switch (dtype) {
    case DataType::kInt8:
      return ReadIntegers<int8_t>(data);
    case DataType::kUint8:
    case DataType::kBool:
      return ReadIntegers<uint8_t>(data);
    case DataType::kInt16:
      return ReadIntegers<int16_t>(data);
    case DataType::kInt32:
      return ReadIntegers<int32_t>(data);
    case DataType::kInt64:
      return ReadIntegers<int64_t>(data);
    default:
      ThrowInvalid("output ", name, " is ", Name(dtype), ", a float type: read it with Floats()");
  }
}

}  // namespace voxgate
