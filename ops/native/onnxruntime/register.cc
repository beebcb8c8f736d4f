// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// The library's one exported function.
#include <onnxruntime_cxx_api.h>

#include <string>

#include "families.h"
#include "status.h"

namespace voxgate {
namespace {

OperatorList AllOperators() {
  OperatorList operators;
  AddRulebookOperators<rulebook::Device::kCpu>(operators);
  AddConvolutionOperators<rulebook::Device::kCpu>(operators);
  AddPoolingOperators<rulebook::Device::kCpu>(operators);
  AddDenseOperators<rulebook::Device::kCpu>(operators);
  AddRowOperators<rulebook::Device::kCpu>(operators);
  AddPointOperators<rulebook::Device::kCpu>(operators);
  return operators;
}

// Shared by every session and never freed: sessions refer to it as long as they live, and at
// process exit ONNX Runtime may be gone before this library's destructors run.
OrtCustomOpDomain* Domain() {
  static OrtCustomOpDomain* const domain = [] {
    Ort::CustomOpDomain made("voxgate");
    for (const OrtCustomOp* op : AllOperators()) made.Add(op);
    return made.release();
  }();
  return domain;
}

}  // namespace
}  // namespace voxgate

extern "C" __attribute__((visibility("default"))) OrtStatus* RegisterCustomOps(
    OrtSessionOptions* options, const OrtApiBase* api_base) {
  const OrtApi* api = api_base->GetApi(ORT_API_VERSION);
  if (api == nullptr) {
    const std::string message = "voxgate's operators need ONNX Runtime 1." +
                                std::to_string(ORT_API_VERSION) + " or newer, this is " +
                                api_base->GetVersionString();
    return api_base->GetApi(1)->CreateStatus(ORT_FAIL, message.c_str());
  }
  Ort::InitApi(api);
  try {
    return api->AddCustomOpDomain(options, voxgate::Domain());
  } catch (...) {
    return voxgate::StatusOfCurrentException("voxgate: registering the operators");
  }
}
