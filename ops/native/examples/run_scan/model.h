// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#pragma once

#include <onnxruntime_cxx_api.h>

#include <cstdint>
#include <string>
#include <vector>

#include "rulebook/voxel_grid.h"

// A sweep in memory: float32 [rows, columns], x, y, z first.
struct Scan {
  std::vector<float> points;
  int64_t columns = 4;

  int64_t rows() const { return static_cast<int64_t>(points.size()) / columns; }
};

// An exported model in an ONNX Runtime session that knows the voxgate operators.
class Model {
 public:
  Model(const std::string& path, int threads);

  // One frame through the model. A model over voxels gets the scan voxelized (mean of each column)
  // on the grid its metadata names. Throws Ort::Exception, rulebook::Error or std::runtime_error.
  std::vector<Ort::Value> Run(const Scan& scan);

  const std::vector<std::string>& output_names() const { return output_names_; }
  int64_t num_features() const { return num_features_; }

 private:
  struct Feeds;
  void FeedPoints(const Scan& scan, Feeds& feeds) const;
  void FeedVoxels(const Scan& scan, Feeds& feeds) const;

  Ort::Env env_;
  Ort::Session session_{nullptr};
  std::vector<std::string> input_names_;
  std::vector<std::string> output_names_;
  rulebook::VoxelGrid grid_;
  int64_t num_features_ = 0;
  int threads_;
};
