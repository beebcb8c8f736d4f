// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// The errors of the client: one exception with the status code that gRPC has for its cause.
#pragma once

#include <stdexcept>
#include <string>

namespace voxgate {

// The numbers of google.rpc.Code.
enum class StatusCode {
  kOk = 0,
  kCancelled = 1,
  kUnknown = 2,
  kInvalidArgument = 3,
  kDeadlineExceeded = 4,
  kNotFound = 5,
  kAlreadyExists = 6,
  kPermissionDenied = 7,
  kResourceExhausted = 8,
  kFailedPrecondition = 9,
  kAborted = 10,
  kOutOfRange = 11,
  kUnimplemented = 12,
  kInternal = 13,
  kUnavailable = 14,
  kDataLoss = 15,
  kUnauthenticated = 16,
};

// "NOT_FOUND" of kNotFound.
const char* Name(StatusCode code);

// kUnknown for a number that is no status code.
StatusCode StatusCodeOf(int number);

// What went wrong, with the value and the limit. From the server, its own message.
class Error : public std::runtime_error {
 public:
  Error(StatusCode code, const std::string& message);

  StatusCode code() const { return code_; }
  // what() without the code's name in front.
  const std::string& message() const { return message_; }

 private:
  StatusCode code_;
  std::string message_;
};

// A file that is not the point cloud it is taken for, or cannot be read.
class FileError : public Error {
 public:
  FileError(const std::string& path, const std::string& message);
};

}  // namespace voxgate
