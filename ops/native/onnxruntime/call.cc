// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#include "call.h"

#include <memory>
#include <string>
#include <utility>

#include "huge_pages.h"
#include "rulebook/error.h"

namespace voxgate {
namespace {

using rulebook::ThrowInvalid;
using rulebook::ThrowTooLarge;

struct InfoRelease {
  void operator()(OrtTensorTypeAndShapeInfo* info) const {
    Ort::GetApi().ReleaseTensorTypeAndShapeInfo(info);
  }
};

}  // namespace

const void* ReadTensorData(const OrtValue* value, const Port& port, Shape* shape) {
  const OrtApi& api = Ort::GetApi();
  OrtTensorTypeAndShapeInfo* raw = nullptr;
  Ort::ThrowOnError(api.GetTensorTypeAndShape(value, &raw));
  const std::unique_ptr<OrtTensorTypeAndShapeInfo, InfoRelease> info(raw);
  size_t rank = 0;
  Ort::ThrowOnError(api.GetDimensionsCount(raw, &rank));
  if (rank < static_cast<size_t>(port.min_rank) || rank > static_cast<size_t>(port.max_rank)) {
    std::vector<int64_t> dims(rank);
    Ort::ThrowOnError(api.GetDimensions(raw, dims.data(), rank));
    ThrowInvalid(port.name, " has shape ", ToString(dims.data(), rank), ", expected ", port.shape);
  }
  shape->rank = static_cast<int>(rank);
  Ort::ThrowOnError(api.GetDimensions(raw, shape->dims.data(), rank));
  return Ort::ConstValue(value).GetTensorRawData();
}

void CheckBatchSize(const char* what, int64_t batch_size) {
  if (batch_size < 0) ThrowInvalid(what, " is ", batch_size, ", expected 0 or more");
  if (batch_size > rulebook::kMaxBatchSize) {
    ThrowTooLarge(what, " is ", batch_size, ", the limit is ", rulebook::kMaxBatchSize);
  }
}

const OrtValue* KernelCall::InputValue(size_t index) const {
  const OrtValue* value = nullptr;
  Ort::ThrowOnError(Ort::GetApi().KernelContext_GetInput(context_, index, &value));
  if (value == nullptr && !inputs_[index].optional) {
    ThrowInvalid("input ", inputs_[index].name, " is missing");
  }
  return value;
}

int64_t KernelCall::BatchSize(size_t index) const {
  const Tensor<int64_t> tensor = Input<int64_t>(index);
  if (tensor.shape.rank == 1 && tensor.shape[0] != 1) {
    ThrowInvalid(tensor.name(), " has shape ", ToString(tensor.shape), ", expected [] or [1]");
  }
  CheckBatchSize(tensor.name(), *tensor.data);
  return *tensor.data;
}

void* KernelCall::OutputData(size_t index, const int64_t* dims, size_t rank, int64_t limit,
                             int64_t element_bytes) {
  const char* name = outputs_[index].name;
  int64_t elements = 1;
  for (size_t axis = 0; axis < rank; ++axis) {
    elements = rulebook::CheckedProduct(elements, dims[axis], limit, name);
  }
  OrtValue* value = nullptr;
  const Ort::Status status(
      Ort::GetApi().KernelContext_GetOutput(context_, index, dims, rank, &value));
  if (!status.IsOK()) {
    std::string reason =
        std::string(name) + " " + ToString(dims, rank) + ": " + status.GetErrorMessage();
    // ONNX Runtime has no code of its own for memory that ran out.
    if (reason.find("allocate") != std::string::npos) ThrowTooLarge("no memory for ", reason);
    throw Ort::Exception(std::move(reason), status.GetErrorCode());
  }
  if (value == nullptr) ThrowInvalid("output ", name, " is missing");
  void* data = Ort::UnownedValue(value).GetTensorMutableRawData();
  if (host_memory_) AdviseHugePages(data, elements * element_bytes);
  return data;
}

}  // namespace voxgate
