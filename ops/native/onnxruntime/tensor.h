// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// What an operator declares about its tensors (Port) and what it sees of them at run time (Tensor).
#pragma once

#include <onnxruntime_cxx_api.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

#include "rulebook/coords.h"
#include "rulebook/error.h"
#include "rulebook/half.h"
#include "rulebook/shape.h"

namespace voxgate {

inline constexpr int kMaxRank = 2 + rulebook::kMaxAxes;

template <typename T>
inline constexpr ONNXTensorElementDataType kElementType = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
template <>
inline constexpr ONNXTensorElementDataType kElementType<float> =
    ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
template <>
inline constexpr ONNXTensorElementDataType kElementType<rulebook::Float16> =
    ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16;
template <>
inline constexpr ONNXTensorElementDataType kElementType<rulebook::BFloat16> =
    ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16;
template <>
inline constexpr ONNXTensorElementDataType kElementType<int32_t> =
    ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32;
template <>
inline constexpr ONNXTensorElementDataType kElementType<int64_t> =
    ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64;

// One input or output of an operator.
struct Port {
  const char* name;
  ONNXTensorElementDataType type;
  const char* shape;  // as error messages say it: "[N, C]"
  int min_rank;
  int max_rank;
  bool optional = false;
  bool on_host = false;  // small values the host reads, whatever the device

  constexpr Port Optional() const {
    Port port = *this;
    port.optional = true;
    return port;
  }
  constexpr Port Ranks(int low, int high) const {
    Port port = *this;
    port.min_rank = low;
    port.max_rank = high;
    return port;
  }
  constexpr Port OnHost() const {
    Port port = *this;
    port.on_host = true;
    return port;
  }
};

// A port of element type T whose rank is the number of names in `shape`.
template <typename T>
constexpr Port MakePort(const char* name, const char* shape) {
  static_assert(kElementType<T> != ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED);
  int rank = 1;
  for (const char* c = shape; *c != '\0'; ++c) rank += *c == ',' ? 1 : 0;
  return Port{name, kElementType<T>, shape, rank, rank};
}

constexpr Port BatchSizePort() {
  return MakePort<int64_t>("batch_size", "[] or [1]").Ranks(0, 1).OnHost();
}

struct Shape {
  int rank = 0;
  std::array<int64_t, kMaxRank> dims{};

  int64_t operator[](int axis) const { return dims[static_cast<size_t>(axis)]; }
};

// "[41264, 16]"
inline std::string ToString(const int64_t* dims, size_t rank) {
  std::string text = "[";
  for (size_t axis = 0; axis < rank; ++axis) {
    if (axis > 0) text += ", ";
    text += std::to_string(dims[axis]);
  }
  return text + "]";
}

inline std::string ToString(const Shape& shape) {
  return ToString(shape.dims.data(), static_cast<size_t>(shape.rank));
}

template <typename T>
struct Tensor {
  const Port* port = nullptr;
  const T* data = nullptr;  // null when absent, or when it holds no element
  Shape shape;
  bool present = false;

  const char* name() const { return port->name; }
};

// Throws unless axis `axis` of `tensor`, counted in `unit`, is `expected`, which `source` asks for:
// "features has 16 channels, weight [27, 32, 64] needs 32".
template <typename T, typename Source>
void ExpectSize(const Tensor<T>& tensor, int axis, const char* unit, int64_t expected,
                const Source& source) {
  if (tensor.shape[axis] == expected) return;
  rulebook::ThrowInvalid(tensor.name(), " has ", tensor.shape[axis], " ", unit, ", ", source.name(),
                         " ", ToString(source.shape), " needs ", expected);
}

// int32 [rows, 1 + axes] as coords. `axes` 0: any legal number of spatial axes.
inline rulebook::CoordsView AsCoords(const Tensor<int32_t>& tensor, int axes = 0) {
  const int64_t columns = tensor.shape[1];
  if (axes > 0 && columns != axes + 1) {
    rulebook::ThrowInvalid(tensor.name(), " has shape ", ToString(tensor.shape), ", ", axes,
                           " spatial axes need ", axes + 1, " columns");
  }
  if (columns < 2 || columns > rulebook::kMaxAxes + 1) {
    rulebook::ThrowInvalid(tensor.name(), " has shape ", ToString(tensor.shape), ", expected 2 to ",
                           rulebook::kMaxAxes + 1, " columns");
  }
  return {tensor.data, tensor.shape[0], static_cast<int>(columns - 1)};
}

}  // namespace voxgate
