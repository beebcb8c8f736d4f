// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// Frames to messages of voxgate.v1, and answers back. What a message claims is checked here.
#pragma once

#include <cstdint>
#include <string>

#include "voxel_inference.pb.h"
#include "voxgate_client/client.h"

namespace voxgate {

// Throws Error (INVALID_ARGUMENT): a deadline out of bounds.
v1::StreamRequest OpenMessage(const std::string& model, const StreamOptions& options);

// Everything but the frame's id.
//
// Throws Error (INVALID_ARGUMENT): sizes that contradict each other, more rows than the message can
// count or more bytes than a message can have.
v1::StreamRequest FrameMessage(const Frame& frame);

// Throws Error (INVALID_ARGUMENT): not 1 to 128 bytes.
void CheckFrameId(const std::string& frame_id);

// Bytes of a frame's arrays, what max_frame_bytes limits.
uint64_t PayloadBytes(const v1::Frame& message);

// Takes the tensors' bytes out of the message.
//
// Throws Error (INTERNAL): a type that is none, or bytes that do not fill the shape.
FrameResult ParseResult(v1::InferResponse* message);

}  // namespace voxgate
