// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// Makes an OrtCustomOp of a kernel class. A kernel class brings
//
//   static constexpr rulebook::Device kDevice;
//   static constexpr const char* kName;
//   static constexpr Port kInputs[], kOutputs[];
//   explicit Kernel(const Attributes&);            // checks attributes, packs constants; may throw
//   void Compute(Call<kDevice>&) const;            // may throw; called by many threads at once
//   static void InferShapes(ShapeInference&);      // optional; may throw
//
// and everything else (error conversion, registration, memory types, counting) is here, once.
#pragma once

#include <onnxruntime_cxx_api.h>

#include <iterator>
#include <string>
#include <type_traits>
#include <vector>

#include "attributes.h"
#include "call.h"
#include "node_clock.h"
#include "operator_counters.h"
#include "shape_inference.h"
#include "status.h"

namespace voxgate {

struct OperatorList {
  std::string model;  // whose calls the operators count
  int runtime_minor;  // of the ONNX Runtime that registers: 31 is 1.31
  std::vector<const OrtCustomOp*> operators;
};

// As metrics say it.
constexpr const char* DeviceName(rulebook::Device device) {
  return device == rulebook::Device::kCpu ? "cpu" : "cuda";
}

// "SparseConv node "conv1"": how every error message begins.
inline std::string NodeLabel(const char* operator_name, const OrtKernelInfo* info) {
  std::string label = operator_name;
  label += " node";
  size_t size = 0;
  Ort::ThrowOnError(Ort::GetApi().KernelInfo_GetNodeName(info, nullptr, &size));
  std::string name(size, '\0');
  Ort::ThrowOnError(Ort::GetApi().KernelInfo_GetNodeName(info, name.data(), &size));
  return label + " \"" + name.c_str() + "\"";
}

// What ONNX Runtime holds for one node.
template <typename Kernel>
class Node {
 public:
  Node(std::string label, const OrtKernelInfo* info, OperatorCounter& counter)
      : label_(std::move(label)),
        device_(info),
        kernel_(Attributes(info)),
        clock_(counter, device_) {
    counter.has_nodes = true;
  }

  OrtStatusPtr ComputeV2(OrtKernelContext* context) const noexcept {
    const typename NodeClock<Kernel::kDevice>::Call counted(clock_, context);
    try {
      Call<Kernel::kDevice> call(device_, context, Kernel::kInputs, Kernel::kOutputs);
      kernel_.Compute(call);
      return nullptr;
    } catch (...) {
      return StatusOfCurrentException(label_);
    }
  }

 private:
  const std::string label_;
  const NodeDevice<Kernel::kDevice> device_;
  const Kernel kernel_;
  mutable NodeClock<Kernel::kDevice> clock_;
};

template <typename Kernel, typename = void>
struct HasShapeInference : std::false_type {};
template <typename Kernel>
struct HasShapeInference<Kernel, std::void_t<decltype(&Kernel::InferShapes)>> : std::true_type {};

template <typename Kernel>
class Operator final : public Ort::CustomOpBase<Operator<Kernel>, Node<Kernel>, true> {
 public:
  Operator(int runtime_minor, OperatorCounter& counter) : counter_(counter) {
    if constexpr (HasShapeInference<Kernel>::value) {
      // Before 1.24 ONNX Runtime crashes (measured: 1.21 to 1.23) when it prepares shape inference
      // for a node whose optional input has an empty name.
      if (runtime_minor < 24 && HasOptionalInput()) return;
      OrtCustomOp::InferOutputShapeFn = [](const OrtCustomOp*,
                                           OrtShapeInferContext* context) noexcept {
        return InferShapes(context,
                           Ports{Kernel::kInputs, std::size(Kernel::kInputs), Kernel::kOutputs},
                           &Kernel::InferShapes);
      };
    }
  }

  OrtStatusPtr CreateKernelV2(const OrtApi& /*api*/, const OrtKernelInfo* info,
                              void** kernel) const noexcept {
    std::string label;
    try {
      label = NodeLabel(Kernel::kName, info);
      *kernel = new Node<Kernel>(label, info, counter_);
      return nullptr;
    } catch (...) {
      return StatusOfCurrentException(label);
    }
  }

  const char* GetName() const { return Kernel::kName; }
  const char* GetExecutionProviderType() const {
    return kOnHost ? nullptr : "CUDAExecutionProvider";  // nullptr: the CPU's
  }

  size_t GetInputTypeCount() const { return std::size(Kernel::kInputs); }
  ONNXTensorElementDataType GetInputType(size_t index) const { return Kernel::kInputs[index].type; }
  OrtCustomOpInputOutputCharacteristic GetInputCharacteristic(size_t index) const {
    return Kernel::kInputs[index].optional ? INPUT_OUTPUT_OPTIONAL : INPUT_OUTPUT_REQUIRED;
  }
  OrtMemType GetInputMemoryType(size_t index) const {
    return !kOnHost && Kernel::kInputs[index].on_host ? OrtMemTypeCPUInput : OrtMemTypeDefault;
  }

  size_t GetOutputTypeCount() const { return std::size(Kernel::kOutputs); }
  ONNXTensorElementDataType GetOutputType(size_t index) const {
    return Kernel::kOutputs[index].type;
  }

 private:
  static constexpr bool HasOptionalInput() {
    for (const Port& port : Kernel::kInputs) {
      if (port.optional) return true;
    }
    return false;
  }

  static constexpr bool kOnHost = Kernel::kDevice == rulebook::Device::kCpu;

  OperatorCounter& counter_;
};

// Adds the operator to the list. It is never freed: sessions keep the pointer.
template <typename Kernel>
void AddOperator(OperatorList& list) {
  OperatorCounter& counter = CounterOf(list.model, Kernel::kName, DeviceName(Kernel::kDevice));
  list.operators.push_back(new Operator<Kernel>(list.runtime_minor, counter));
}

// Kernel<D, T> for every T given.
template <template <rulebook::Device, typename> class Kernel, rulebook::Device D, typename... T>
void AddOperators(OperatorList& list) {
  (AddOperator<Kernel<D, T>>(list), ...);
}

// Kernel<D, T> for every element type T of features.
template <template <rulebook::Device, typename> class Kernel, rulebook::Device D>
void AddFeatureOperators(OperatorList& list) {
  AddOperators<Kernel, D, float, rulebook::Float16, rulebook::BFloat16>(list);
}

}  // namespace voxgate
