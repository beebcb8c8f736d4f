// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// Arrays as numpy files.
#pragma once

#include <string>

#include "voxgate_client/tensor.h"

namespace voxgate {

// bfloat16, which numpy does not have, is widened to float32.
// Throws FileError: the file cannot be written.
void WriteNpy(const std::string& path, const Tensor& tensor);

// A name from a server as part of a file's name: what is no letter, digit, - or _ becomes _.
std::string FileNamePart(const std::string& name);

}  // namespace voxgate
