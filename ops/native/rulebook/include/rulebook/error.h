// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>

namespace rulebook {

enum class ErrorCode {
  kInvalidArgument,    // a shape, attribute or value the operator cannot accept
  kResourceExhausted,  // a legal request whose result would pass a limit of shape.h
  kDeviceFailure,      // the GPU or its driver refused or failed
};

// Every error this library throws. The message names the value and the limit it broke.
class Error : public std::runtime_error {
 public:
  Error(ErrorCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  ErrorCode code() const { return code_; }

 private:
  ErrorCode code_;
};

namespace internal {
template <typename... Parts>
std::string Concat(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}
}  // namespace internal

template <typename... Parts>
[[noreturn]] void ThrowInvalid(const Parts&... parts) {
  throw Error(ErrorCode::kInvalidArgument, internal::Concat(parts...));
}

template <typename... Parts>
[[noreturn]] void ThrowTooLarge(const Parts&... parts) {
  throw Error(ErrorCode::kResourceExhausted, internal::Concat(parts...));
}

template <typename... Parts>
[[noreturn]] void ThrowDeviceFailure(const Parts&... parts) {
  throw Error(ErrorCode::kDeviceFailure, internal::Concat(parts...));
}

}  // namespace rulebook
