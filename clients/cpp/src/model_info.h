// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// A server's description of a model, and the part of its metadata that a client uses.
#pragma once

#include "voxel_inference.pb.h"
#include "voxgate_client/frame.h"

namespace voxgate {

// Metadata that is no JSON object, or holds an impossible grid, leaves its fields empty.
ModelInfo ParseModel(const v1::ModelInfo& message);

}  // namespace voxgate
