// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// What an operator can say about its outputs before it runs. ONNX Runtime otherwise knows not even
// the rank of a custom operator's output, and much of its graph optimization needs it.
#pragma once

#include <onnxruntime_cxx_api.h>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "tensor.h"

namespace voxgate {

// The ports of one kernel class.
struct Ports {
  const Port* inputs;
  size_t num_inputs;
  const Port* outputs;
};

class ShapeInference {
 public:
  using Dim = Ort::ShapeInferContext::SymbolicInteger;

  ShapeInference(OrtShapeInferContext* context, const Ports& ports)
      : raw_(context), context_(&Ort::GetApi(), context), ports_(ports) {}

  // Axis `axis` of input `input`: its size, its symbol, or a new symbol where nothing is known.
  Dim InputDim(size_t input, size_t axis);
  // A symbol of its own, for a count only the run will tell.
  Dim NewSymbol();
  std::vector<int64_t> Ints(const char* name) const;
  std::vector<float> Floats(const char* name) const;
  std::string String(const char* name) const;
  size_t InputRank(size_t input) const { return context_.GetInputShape(input).size(); }

  void Set(size_t output, const std::vector<Dim>& dims);

 private:
  template <typename Values>
  Values Attribute(const char* name, OrtOpAttrType type) const;

  ONNXTensorElementDataType OutputType(size_t output) const;

  OrtShapeInferContext* raw_;
  Ort::ShapeInferContext context_;
  Ports ports_;
  std::deque<std::string> symbols_;  // dims point into it
};

// Runs `infer`. Where that fails the shapes stay unknown and the status is still OK: the kernel's
// constructor refuses the same attributes, and ONNX Runtime leaks the status of a failed inference.
OrtStatusPtr InferShapes(OrtShapeInferContext* context, const Ports& ports,
                         void (*infer)(ShapeInference&)) noexcept;

}  // namespace voxgate
