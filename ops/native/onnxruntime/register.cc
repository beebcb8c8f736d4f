// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// The library's one exported function.
#include <onnxruntime_cxx_api.h>

#include <cstdlib>
#include <string>

#include "families.h"
#include "status.h"

namespace voxgate {
namespace {

// "1.31.1" -> 31
int MinorVersion(const OrtApiBase* api_base) {
  const std::string version = api_base->GetVersionString();
  return std::atoi(version.c_str() + version.find('.') + 1);
}

OperatorList AllOperators(int runtime_minor) {
  OperatorList list{runtime_minor, {}};
  AddRulebookOperators<rulebook::Device::kCpu>(list);
  AddConvolutionOperators<rulebook::Device::kCpu>(list);
  AddPoolingOperators<rulebook::Device::kCpu>(list);
  AddDenseOperators<rulebook::Device::kCpu>(list);
  AddRowOperators<rulebook::Device::kCpu>(list);
  AddPointOperators<rulebook::Device::kCpu>(list);
  return list;
}

// Shared by every session and never freed: sessions refer to it as long as they live, and at
// process exit ONNX Runtime may be gone before this library's destructors run.
OrtCustomOpDomain* Domain(int runtime_minor) {
  static OrtCustomOpDomain* const domain = [runtime_minor] {
    Ort::CustomOpDomain made("voxgate");
    for (const OrtCustomOp* op : AllOperators(runtime_minor).operators) made.Add(op);
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
    return api->AddCustomOpDomain(options, voxgate::Domain(voxgate::MinorVersion(api_base)));
  } catch (...) {
    return voxgate::StatusOfCurrentException("voxgate: registering the operators");
  }
}
