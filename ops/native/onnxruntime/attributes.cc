// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#include "attributes.h"

#include <cmath>
#include <limits>

#include "rulebook/error.h"
#include "tensor.h"

namespace voxgate {
namespace {

using rulebook::ThrowInvalid;

// True when the call succeeded; its status, if any, is released.
bool Succeeded(OrtStatus* status) { return Ort::Status(status).IsOK(); }

// ONNX Runtime answers "absent" and "of another type" with the same code, so presence is probed
// with every getter there is. A probe only asks for a size or a scalar.
bool Present(const OrtKernelInfo* info, const char* name) {
  const OrtApi& api = Ort::GetApi();
  size_t size = 0;
  int64_t integer = 0;
  float real = 0;
  return Succeeded(api.KernelInfoGetAttribute_int64(info, name, &integer)) ||
         Succeeded(api.KernelInfoGetAttribute_float(info, name, &real)) ||
         Succeeded(api.KernelInfoGetAttribute_string(info, name, nullptr, &size)) ||
         (Succeeded(api.KernelInfoGetAttributeArray_int64(info, name, nullptr, &size)) &&
          size > 0) ||
         (Succeeded(api.KernelInfoGetAttributeArray_float(info, name, nullptr, &size)) && size > 0);
}

}  // namespace

void Attributes::CheckAbsent(const char* name, const char* expected, bool required) const {
  if (Present(info_, name)) ThrowInvalid("attribute ", name, " is not ", expected);
  if (required) ThrowInvalid("attribute ", name, " (", expected, ") is missing");
}

int64_t Attributes::Int(const char* name, std::optional<int64_t> fallback, int64_t low,
                        int64_t high) const {
  int64_t value = 0;
  if (!Succeeded(Ort::GetApi().KernelInfoGetAttribute_int64(info_, name, &value))) {
    CheckAbsent(name, "an int", !fallback);
    value = *fallback;
  }
  if (value >= low && value <= high) return value;
  if (high == std::numeric_limits<int64_t>::max()) {
    ThrowInvalid("attribute ", name, " is ", value, ", expected ", low, " or more");
  }
  ThrowInvalid("attribute ", name, " is ", value, ", expected ", low, " to ", high);
}

float Attributes::Float(const char* name, std::optional<float> fallback) const {
  float value = 0;
  if (!Succeeded(Ort::GetApi().KernelInfoGetAttribute_float(info_, name, &value))) {
    CheckAbsent(name, "a float", !fallback);
    value = *fallback;
  }
  if (std::isnan(value)) ThrowInvalid("attribute ", name, " is NaN, expected a number");
  return value;
}

std::vector<float> Attributes::Floats(const char* name) const {
  const OrtApi& api = Ort::GetApi();
  size_t size = 0;
  if (!Succeeded(api.KernelInfoGetAttributeArray_float(info_, name, nullptr, &size)) || size == 0) {
    CheckAbsent(name, "a list of floats", true);
  }
  std::vector<float> values(size);
  Ort::ThrowOnError(api.KernelInfoGetAttributeArray_float(info_, name, values.data(), &size));
  return values;
}

std::vector<int64_t> Attributes::Ints(const char* name, bool required) const {
  const OrtApi& api = Ort::GetApi();
  size_t size = 0;
  if (!Succeeded(api.KernelInfoGetAttributeArray_int64(info_, name, nullptr, &size)) || size == 0) {
    CheckAbsent(name, "a list of ints", required);
    return {};
  }
  std::vector<int64_t> values(size);
  Ort::ThrowOnError(api.KernelInfoGetAttributeArray_int64(info_, name, values.data(), &size));
  return values;
}

std::optional<std::string> Attributes::String(const char* name) const {
  const OrtApi& api = Ort::GetApi();
  size_t size = 0;
  if (!Succeeded(api.KernelInfoGetAttribute_string(info_, name, nullptr, &size))) {
    CheckAbsent(name, "a string", false);
    return std::nullopt;
  }
  std::string text(size, '\0');
  Ort::ThrowOnError(api.KernelInfoGetAttribute_string(info_, name, text.data(), &size));
  text.resize(size - 1);  // the terminating zero
  return text;
}

void Attributes::ThrowNotAChoice(const char* name, const std::optional<std::string>& text,
                                 const std::string& expected) {
  if (!text) ThrowInvalid("attribute ", name, " (one of ", expected, ") is missing");
  ThrowInvalid("attribute ", name, " is \"", *text, "\", expected one of ", expected);
}

rulebook::SpatialShape Attributes::SpatialShape() const {
  const std::vector<int64_t> values = Ints("spatial_shape", true);
  if (values.size() > rulebook::kMaxAxes) {
    ThrowInvalid("attribute spatial_shape ", ToString(values.data(), values.size()), " has ",
                 values.size(), " axes, expected 1 to ", rulebook::kMaxAxes);
  }
  rulebook::SpatialShape shape;
  for (const int64_t size : values) shape[shape.axes++] = size;
  rulebook::CheckSpatialShape(shape);
  return shape;
}

rulebook::PerAxis Attributes::PerAxis(const char* name, int axes,
                                      std::optional<int64_t> fallback) const {
  std::vector<int64_t> values = Ints(name, !fallback);
  if (values.empty()) values.assign(static_cast<size_t>(axes), *fallback);
  if (values.size() != static_cast<size_t>(axes)) {
    ThrowInvalid("attribute ", name, " ", ToString(values.data(), values.size()), " has ",
                 values.size(), " values, spatial_shape has ", axes, " axes");
  }
  rulebook::PerAxis result;
  for (const int64_t value : values) result[result.axes++] = value;
  return result;
}

}  // namespace voxgate
