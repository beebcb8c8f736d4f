// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#include "shape_inference.h"

#include <atomic>

#include "status.h"

namespace voxgate {

ShapeInference::Dim ShapeInference::InputDim(size_t input, size_t axis) {
  // ONNX Runtime shows a tensor of unknown rank as one of rank 0.
  if (input < context_.GetInputCount()) {
    const auto& shape = context_.GetInputShape(input);
    if (axis < shape.size() && (!shape[axis].IsInt() || shape[axis].AsInt() >= 0)) {
      return shape[axis];
    }
  }
  return NewSymbol();
}

ShapeInference::Dim ShapeInference::NewSymbol() {
  // Equal symbols mean equal sizes to ONNX Runtime's memory planner, so each is used once in the
  // life of the process.
  static std::atomic<uint64_t> next{0};
  symbols_.push_back("voxgate_" + std::to_string(next.fetch_add(1)));
  return Dim(symbols_.back().c_str());
}

void ShapeInference::Set(size_t output, const std::vector<Dim>& dims) {
  // Not Ort::ShapeInferContext::SetOutputShape: it writes -2 where a symbol stands, which later
  // releases of ONNX Runtime refuse.
  const OrtApi& api = Ort::GetApi();
  std::vector<int64_t> sizes;
  std::vector<const char*> symbols;
  for (const Dim& dim : dims) {
    sizes.push_back(dim.IsInt() ? dim.AsInt() : -1);
    symbols.push_back(dim.IsInt() ? "" : dim.AsSym());
  }
  OrtTensorTypeAndShapeInfo* made = nullptr;
  Ort::ThrowOnError(api.CreateTensorTypeAndShapeInfo(&made));
  const Ort::TensorTypeAndShapeInfo info(made);
  Ort::ThrowOnError(api.SetTensorElementType(info, outputs_[output].type));
  Ort::ThrowOnError(api.SetDimensions(info, sizes.data(), sizes.size()));
  Ort::ThrowOnError(api.SetSymbolicDimensions(info, symbols.data(), symbols.size()));
  Ort::ThrowOnError(api.ShapeInferContext_SetOutputTypeShape(raw_, output, info));
}

OrtStatusPtr InferShapes(OrtShapeInferContext* context, const char* operator_name,
                         const Port* outputs, void (*infer)(ShapeInference&)) noexcept {
  try {
    ShapeInference inference(context, outputs);
    infer(inference);
    return nullptr;
  } catch (...) {
    return StatusOfCurrentException(operator_name);
  }
}

}  // namespace voxgate
