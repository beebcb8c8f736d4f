// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#include "voxgate_client/error.h"

#include <array>

namespace voxgate {
namespace {

constexpr std::array<const char*, 17> kNames = {
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
};

}  // namespace

const char* Name(StatusCode code) { return kNames.at(static_cast<size_t>(code)); }

StatusCode StatusCodeOf(int number) {
  const bool known = number >= 0 && static_cast<size_t>(number) < kNames.size();
  return known ? static_cast<StatusCode>(number) : StatusCode::kUnknown;
}

Error::Error(StatusCode code, const std::string& message)
    : std::runtime_error(std::string(Name(code)) + ": " + message),
      code_(code),
      message_(message) {}

FileError::FileError(const std::string& path, const std::string& message)
    : Error(StatusCode::kInvalidArgument, path + ": " + message) {}

}  // namespace voxgate
