// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// One named array of an answer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace voxgate {

enum class DataType { kFloat32, kFloat16, kBfloat16, kInt8, kUint8, kInt16, kInt32, kInt64, kBool };

// "float32" of kFloat32.
const char* Name(DataType dtype);
// Bytes of one value.
size_t Width(DataType dtype);

// Row-major values; `data` has exactly the bytes that shape and dtype say.
struct Tensor {
  std::string name;
  DataType dtype = DataType::kFloat32;
  std::vector<int64_t> shape;
  std::string data;

  size_t size() const { return data.size() / Width(dtype); }

  // The values, widened. Throws Error (INVALID_ARGUMENT) unless dtype is one of the float types.
  std::vector<float> Floats() const;
  // The values, widened. Throws Error (INVALID_ARGUMENT) for a float type.
  std::vector<int64_t> Integers() const;
};

}  // namespace voxgate
