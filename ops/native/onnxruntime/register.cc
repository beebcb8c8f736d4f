// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// What ONNX Runtime calls when it loads the library.
#include <onnxruntime_cxx_api.h>

#include <cstdlib>
#include <map>
#include <mutex>
#include <string>

#include "families.h"
#include "operator_times.h"
#include "status.h"

namespace voxgate {
namespace {

// "1.31.1" -> 31
int MinorVersion(const OrtApiBase* api_base) {
  const std::string version = api_base->GetVersionString();
  return std::atoi(version.c_str() + version.find('.') + 1);
}

// What the session's configuration calls its model; "" if it does not.
std::string ModelName(const OrtApi& api, const OrtSessionOptions* options) {
  int has_name = 0;
  Ort::ThrowOnError(api.HasSessionConfigEntry(options, VOXGATE_MODEL_CONFIG_ENTRY, &has_name));
  if (has_name == 0) return "";
  size_t size = 0;
  Ort::ThrowOnError(api.GetSessionConfigEntry(options, VOXGATE_MODEL_CONFIG_ENTRY, nullptr, &size));
  std::string name(size, '\0');
  Ort::ThrowOnError(
      api.GetSessionConfigEntry(options, VOXGATE_MODEL_CONFIG_ENTRY, name.data(), &size));
  return name.c_str();  // without its final zero
}

template <rulebook::Device D>
void AddOperators(OperatorList& list) {
  AddRulebookOperators<D>(list);
  AddConvolutionOperators<D>(list);
  AddPoolingOperators<D>(list);
  AddDenseOperators<D>(list);
  AddRowOperators<D>(list);
  AddPointOperators<D>(list);
}

OperatorList AllOperators(const std::string& model, int runtime_minor) {
  OperatorList list{model, runtime_minor, {}};
  AddOperators<rulebook::Device::kCpu>(list);
#if defined(VOXGATE_HAS_CUDA)
  AddOperators<rulebook::Device::kCuda>(list);
#endif
  return list;
}

// One for each name of a model, shared by the sessions of that name and never freed: they refer to
// it as long as they live, and at process exit ONNX Runtime may be gone before this library's
// destructors run.
OrtCustomOpDomain* Domain(const std::string& model, int runtime_minor) {
  static auto* const mutex = new std::mutex;
  static auto* const domains = new std::map<std::string, OrtCustomOpDomain*>;
  const std::lock_guard<std::mutex> lock(*mutex);
  OrtCustomOpDomain*& domain = (*domains)[model];
  if (domain == nullptr) {
    Ort::CustomOpDomain made("voxgate");
    for (const OrtCustomOp* op : AllOperators(model, runtime_minor).operators) made.Add(op);
    domain = made.release();
  }
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
    return api->AddCustomOpDomain(options, voxgate::Domain(voxgate::ModelName(*api, options),
                                                           voxgate::MinorVersion(api_base)));
  } catch (...) {
    return voxgate::StatusOfCurrentException("voxgate: registering the operators");
  }
}
