// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// What is sent and what comes back: models, frames and answers.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "voxgate_client/error.h"
#include "voxgate_client/point_file.h"
#include "voxgate_client/tensor.h"
#include "voxgate_client/voxelize.h"

namespace voxgate {

using Seconds = std::chrono::duration<double>;

struct OutputInfo {
  std::string name;
  std::string dtype;           // "float32"; a number if this client does not know it
  std::vector<int64_t> shape;  // -1: known only per frame
  std::string meaning;         // per_site, per_point, sparse, per_frame, dense or detections
  std::string coords;          // of a sparse output: the output that names its sites
};

// What a server says about a model.
struct ModelInfo {
  std::string name;
  std::string version;
  std::string state;  // LOADING, READY, UNLOADING or FAILED
  std::string state_reason;
  std::string input_kind;  // "voxels" or "points"
  std::vector<std::string> feature_names;
  std::vector<int64_t> spatial_shape;  // z, y, x
  std::vector<OutputInfo> outputs;
  uint32_t max_frame_sites = 0;  // 0: the server names no limit
  uint64_t max_frame_bytes = 0;
  std::optional<VoxelGrid> grid;  // from the metadata; none if that has none, or an impossible one
  std::vector<std::string> class_names;
  std::string metadata_json;
};

struct Points {
  size_t columns = 0;
  std::vector<float> values;  // [P, columns], x, y, z first, in metres

  size_t count() const { return columns == 0 ? 0 : values.size() / columns; }
};

// One sensor sweep.
struct Frame {
  std::string frame_id;  // at most 128 bytes; "" lets the stream choose one
  std::string sensor_id;
  std::optional<std::chrono::system_clock::time_point> captured_at;
  std::variant<Points, Voxels> payload;

  // Points or sites.
  size_t count() const;
  // Of its arrays, as they are sent.
  size_t bytes() const;
};

// The frame a model takes out of a cloud: the columns it names, averaged per voxel of the model's
// grid when it takes voxels.
//
// fill: value for a feature the cloud does not have.
// Throws Error (INVALID_ARGUMENT): a feature is missing and there is no fill, or a model of voxels
// says no grid.
Frame MakeFrame(const PointCloud& cloud, const ModelInfo& model,
                std::optional<float> fill = std::nullopt);

// Microseconds a frame spent in each stage on the server, and the batch it ran in.
struct Timing {
  uint64_t receive_us = 0;
  uint64_t decode_us = 0;
  uint64_t queue_us = 0;
  uint64_t execute_us = 0;
  uint64_t encode_us = 0;
  uint64_t total_us = 0;
  uint32_t batch_frames = 0;
  uint64_t batch_sites = 0;
};

// The answer to one frame. Rows of per_site and per_point outputs are in the order sent.
struct FrameResult {
  std::string frame_id;
  std::string sensor_id;
  std::string model;
  std::string version;
  std::vector<Tensor> outputs;
  Timing timing;
  Seconds client_time{0};  // from Send taking the frame to its answer

  // nullptr if there is none of that name.
  const Tensor* Output(const std::string& name) const;
};

// The error that answers one frame.
struct FrameFailure {
  std::string frame_id;
  StatusCode code = StatusCode::kUnknown;
  std::string message;
  Seconds client_time{0};
};

using Answer = std::variant<FrameResult, FrameFailure>;

}  // namespace voxgate
