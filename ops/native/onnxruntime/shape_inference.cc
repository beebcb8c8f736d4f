// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#include "shape_inference.h"

#include <atomic>

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

ONNXTensorElementDataType ShapeInference::OutputType(size_t output) const {
  // Of several kernels of one name ONNX Runtime calls the first one's inference for all, so the
  // declared type may be another kernel's: ask the input that was declared to be of the same.
  const ONNXTensorElementDataType declared = ports_.outputs[output].type;
  for (size_t i = 0; i < ports_.num_inputs && i < context_.GetInputCount(); ++i) {
    if (ports_.inputs[i].type != declared) continue;
    OrtTensorTypeAndShapeInfo* info = nullptr;  // the context's own
    ONNXTensorElementDataType type = declared;
    Ort::ThrowOnError(Ort::GetApi().ShapeInferContext_GetInputTypeShape(raw_, i, &info));
    Ort::ThrowOnError(Ort::GetApi().GetTensorElementType(info, &type));
    return type;
  }
  return declared;
}

// Not Ort::ShapeInferContext's getters: they leak the status of the call that asks for the size.
template <typename Values>
Values ShapeInference::Attribute(const char* name, OrtOpAttrType type) const {
  const OrtApi& api = Ort::GetApi();
  const OrtOpAttr* attribute = nullptr;
  Ort::ThrowOnError(api.ShapeInferContext_GetAttribute(raw_, name, &attribute));
  size_t bytes = 0;
  typename Values::value_type none{};
  const Ort::Status asked(api.ReadOpAttr(attribute, type, &none, 0, &bytes));
  Values values(bytes / sizeof none, none);
  if (bytes > 0) Ort::ThrowOnError(api.ReadOpAttr(attribute, type, values.data(), bytes, &bytes));
  return values;
}

std::vector<int64_t> ShapeInference::Ints(const char* name) const {
  return Attribute<std::vector<int64_t>>(name, ORT_OP_ATTR_INTS);
}

std::vector<float> ShapeInference::Floats(const char* name) const {
  return Attribute<std::vector<float>>(name, ORT_OP_ATTR_FLOATS);
}

std::string ShapeInference::String(const char* name) const {
  std::string text = Attribute<std::string>(name, ORT_OP_ATTR_STRING);
  // Some releases of ONNX Runtime count the terminating zero, some do not.
  if (!text.empty() && text.back() == '\0') text.pop_back();
  return text;
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
  Ort::ThrowOnError(api.SetTensorElementType(info, OutputType(output)));
  Ort::ThrowOnError(api.SetDimensions(info, sizes.data(), sizes.size()));
  Ort::ThrowOnError(api.SetSymbolicDimensions(info, symbols.data(), symbols.size()));
  Ort::ThrowOnError(api.ShapeInferContext_SetOutputTypeShape(raw_, output, info));
}

OrtStatusPtr InferShapes(OrtShapeInferContext* context, const Ports& ports,
                         void (*infer)(ShapeInference&)) noexcept {
  try {
    ShapeInference inference(context, ports);
    infer(inference);
  } catch (...) {  // NOLINT(bugprone-empty-catch): see the declaration
  }
  return nullptr;
}

}  // namespace voxgate
