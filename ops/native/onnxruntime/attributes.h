// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// A node's attributes, read and checked once, at session creation. Every getter throws
// InvalidArgument naming the attribute, its value and what was expected.
#pragma once

#include <onnxruntime_cxx_api.h>

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "rulebook/shape.h"

namespace voxgate {

// The spelling of an enumeration's values in the model file.
template <typename Enum, size_t kSize>
using Names = std::array<std::pair<std::string_view, Enum>, kSize>;

class Attributes {
 public:
  explicit Attributes(const OrtKernelInfo* info) : info_(info) {}

  const OrtKernelInfo* info() const { return info_; }

  // Without a `fallback` the attribute is required.
  int64_t Int(const char* name, std::optional<int64_t> fallback, int64_t low, int64_t high) const;
  bool Flag(const char* name, bool fallback) const {
    return Int(name, fallback ? 1 : 0, 0, 1) != 0;
  }
  float Float(const char* name, std::optional<float> fallback) const;  // any value but NaN
  std::vector<float> Floats(const char* name) const;

  // A legal spatial_shape.
  rulebook::SpatialShape SpatialShape() const;
  // One value per axis; `fallback` fills every axis of an absent attribute.
  rulebook::PerAxis PerAxis(const char* name, int axes, std::optional<int64_t> fallback) const;

  template <typename Enum, size_t kSize>
  Enum Choice(const char* name, const Names<Enum, kSize>& names,
              std::optional<Enum> fallback = std::nullopt) const {
    const std::optional<std::string> text = String(name);
    if (!text && fallback) return *fallback;
    std::string expected;
    for (const auto& [spelling, value] : names) {
      if (text && *text == spelling) return value;
      expected += (expected.empty() ? "" : ", ") + std::string(spelling);
    }
    ThrowNotAChoice(name, text, expected);
  }

 private:
  std::optional<std::string> String(const char* name) const;
  std::vector<int64_t> Ints(const char* name, bool required) const;
  [[noreturn]] static void ThrowNotAChoice(const char* name, const std::optional<std::string>& text,
                                           const std::string& expected);
  // Throws when the attribute is there with another type than `expected`, or is not there at all
  // but required.
  void CheckAbsent(const char* name, const char* expected, bool required) const;

  const OrtKernelInfo* info_;
};

}  // namespace voxgate
