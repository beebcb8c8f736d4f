// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#include "model_info.h"

#include <algorithm>
#include <cctype>
#include <nlohmann/json.hpp>

namespace voxgate {
namespace {

std::optional<std::vector<double>> Numbers(const nlohmann::json& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end() || !found->is_array()) return std::nullopt;
  std::vector<double> values;
  for (const auto& value : *found) {
    if (!value.is_number()) return std::nullopt;
    values.push_back(value.get<double>());
  }
  return values;
}

std::optional<VoxelGrid> Grid(const nlohmann::json& metadata) {
  const auto range = Numbers(metadata, "point_range");
  const auto size = Numbers(metadata, "voxel_size");
  if (!range.has_value() || !size.has_value()) return std::nullopt;
  VoxelGrid grid{*range, *size};
  try {
    grid.Shape();
  } catch (const Error&) {
    return std::nullopt;
  }
  return grid;
}

std::vector<std::string> Strings(const nlohmann::json& object, const char* key) {
  std::vector<std::string> values;
  const auto found = object.find(key);
  if (found == object.end() || !found->is_array()) return values;
  for (const auto& value : *found) {
    values.push_back(value.is_string() ? value.get<std::string>() : value.dump());
  }
  return values;
}

std::string LowerName(v1::DataType dtype) {
  if (!v1::DataType_IsValid(dtype)) return std::to_string(dtype);
  std::string name = v1::DataType_Name(dtype);
  std::transform(name.begin(), name.end(), name.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return name;
}

OutputInfo ParseOutput(const v1::TensorInfo& message) {
  return {message.name(),
          LowerName(message.dtype()),
          {message.shape().begin(), message.shape().end()},
          message.meaning(),
          message.coords()};
}

}  // namespace

ModelInfo ParseModel(const v1::ModelInfo& message) {
  ModelInfo model;
  model.name = message.name();
  model.version = message.version();
  const bool known = v1::ModelInfo_State_IsValid(message.state());
  model.state = known ? v1::ModelInfo_State_Name(message.state()) : "?";
  model.state_reason = message.state_reason();
  model.input_kind = message.input_kind();
  model.feature_names = {message.feature_names().begin(), message.feature_names().end()};
  model.spatial_shape = {message.spatial_shape().begin(), message.spatial_shape().end()};
  for (const auto& output : message.outputs()) model.outputs.push_back(ParseOutput(output));
  model.max_frame_sites = message.max_frame_sites();
  model.max_frame_bytes = message.max_frame_bytes();
  model.metadata_json = message.metadata_json();
  const auto metadata = nlohmann::json::parse(model.metadata_json, nullptr, false);
  if (metadata.is_object()) {
    model.grid = Grid(metadata);
    model.class_names = Strings(metadata, "class_names");
  }
  return model;
}

}  // namespace voxgate
