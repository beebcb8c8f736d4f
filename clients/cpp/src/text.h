// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// Messages put together from values.
#pragma once

#include <sstream>
#include <string>

#include "voxgate_client/error.h"

namespace voxgate {

template <typename... Parts>
std::string Text(const Parts&... parts) {
  std::ostringstream text;
  (text << ... << parts);
  return text.str();
}

template <typename Values>
std::string Joined(const Values& values) {
  std::ostringstream text;
  const char* separator = "";
  for (const auto& value : values) {
    text << separator << value;
    separator = ", ";
  }
  return text.str();
}

template <typename... Parts>
[[noreturn]] void ThrowInvalid(const Parts&... parts) {
  throw Error(StatusCode::kInvalidArgument, Text(parts...));
}

}  // namespace voxgate
