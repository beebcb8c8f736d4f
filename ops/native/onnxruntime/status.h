// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#pragma once

#include <onnxruntime_cxx_api.h>

#include <string>

namespace voxgate {

// Call inside a catch block: the exception in flight as an OrtStatus whose message begins with
// `where`. An argument the operator cannot accept is ORT_INVALID_ARGUMENT; a limit that was passed
// or memory that ran out is ORT_FAIL and says "resource exhausted"; what ONNX Runtime itself threw
// keeps its code.
OrtStatus* StatusOfCurrentException(const std::string& where) noexcept;

}  // namespace voxgate
