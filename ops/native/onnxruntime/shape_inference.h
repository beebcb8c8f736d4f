// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// What an operator can say about its outputs before it runs. ONNX Runtime otherwise knows not even
// the rank of a custom operator's output, and much of its graph optimization needs it.
#pragma once

#include <onnxruntime_cxx_api.h>

#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "tensor.h"

namespace voxgate {

class ShapeInference {
 public:
  using Dim = Ort::ShapeInferContext::SymbolicInteger;

  ShapeInference(OrtShapeInferContext* context, const Port* outputs)
      : raw_(context), context_(&Ort::GetApi(), context), outputs_(outputs) {}

  // Axis `axis` of input `input`: its size, its symbol, or a new symbol where nothing is known.
  Dim InputDim(size_t input, size_t axis);
  // A symbol of its own, for a count only the run will tell.
  Dim NewSymbol();
  std::vector<int64_t> Ints(const char* name) { return context_.GetAttrInts(name); }
  std::vector<float> Floats(const char* name) { return context_.GetAttrFloats(name); }
  std::string String(const char* name) { return context_.GetAttrString(name); }
  size_t InputRank(size_t input) const { return context_.GetInputShape(input).size(); }

  void Set(size_t output, const std::vector<Dim>& dims);

 private:
  OrtShapeInferContext* raw_;
  Ort::ShapeInferContext context_;
  const Port* outputs_;
  std::deque<std::string> symbols_;  // dims point into it
};

// Runs `infer`, turning exceptions into a status.
OrtStatusPtr InferShapes(OrtShapeInferContext* context, const char* operator_name,
                         const Port* outputs, void (*infer)(ShapeInference&)) noexcept;

}  // namespace voxgate
