// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#include "status.h"

#include <exception>
#include <new>

#include "rulebook/error.h"

namespace voxgate {
namespace {

OrtStatus* MakeStatus(OrtErrorCode code, const std::string& where, const std::string& what) {
  return Ort::GetApi().CreateStatus(code, (where + ": " + what).c_str());
}

OrtStatus* Translate(const std::string& where) {
  try {
    throw;
  } catch (const rulebook::Error& error) {
    switch (error.code()) {
      case rulebook::ErrorCode::kInvalidArgument:
        return MakeStatus(ORT_INVALID_ARGUMENT, where, error.what());
      case rulebook::ErrorCode::kResourceExhausted:
        return MakeStatus(ORT_FAIL, where, std::string("resource exhausted: ") + error.what());
      case rulebook::ErrorCode::kDeviceFailure:
        break;
    }
    return MakeStatus(ORT_EP_FAIL, where, error.what());
  } catch (const Ort::Exception& error) {
    return MakeStatus(error.GetOrtErrorCode(), where, error.what());
  } catch (const std::bad_alloc&) {
    return MakeStatus(ORT_FAIL, where, "resource exhausted: not enough memory");
  } catch (const std::exception& error) {
    return MakeStatus(ORT_FAIL, where, error.what());
  } catch (...) {
    return MakeStatus(ORT_FAIL, where, "unknown error");
  }
}

}  // namespace

OrtStatus* StatusOfCurrentException(const std::string& where) noexcept {
  try {
    return Translate(where);
  } catch (...) {  // no memory left even for the message
    return Ort::GetApi().CreateStatus(ORT_FAIL, "voxgate: resource exhausted: not enough memory");
  }
}

}  // namespace voxgate
