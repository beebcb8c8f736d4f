// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#include "voxgate_client/frame.h"

#include <algorithm>

#include "text.h"

namespace voxgate {
namespace {

// For each name its column in the cloud; -1 where the cloud has none and `fill` stands in.
std::vector<std::ptrdiff_t> FindColumns(const PointCloud& cloud, const ModelInfo& model,
                                        bool may_fill) {
  std::vector<std::ptrdiff_t> places;
  std::vector<std::string> missing;
  for (const std::string& name : model.feature_names) {
    const auto found = std::find(cloud.fields.begin(), cloud.fields.end(), name);
    const bool has = found != cloud.fields.end();
    places.push_back(has ? found - cloud.fields.begin() : -1);
    if (!has) missing.push_back(name);
  }
  if (!missing.empty() && !may_fill) {
    ThrowInvalid("model ", model.name, " takes ", Joined(model.feature_names), ": no column ",
                 Joined(missing), ", the points have ", Joined(cloud.fields),
                 "; --fill gives a value for what is missing");
  }
  return places;
}

// [P, places.size()]: the cloud's columns at places.
std::vector<float> Select(const PointCloud& cloud, const std::vector<std::ptrdiff_t>& places,
                          float fill) {
  std::vector<float> values;
  values.reserve(cloud.count() * places.size());
  for (size_t p = 0; p < cloud.count(); ++p) {
    const float* const point = cloud.values.data() + p * cloud.columns();
    for (const std::ptrdiff_t place : places) values.push_back(place < 0 ? fill : point[place]);
  }
  return values;
}

Voxels DropColumns(const Voxels& voxels, size_t dropped) {
  Voxels kept;
  kept.axes = voxels.axes;
  kept.columns = voxels.columns - dropped;
  kept.coords = voxels.coords;
  kept.features.reserve(voxels.count() * kept.columns);
  for (size_t n = 0; n < voxels.count(); ++n) {
    const auto row = voxels.features.begin() + static_cast<std::ptrdiff_t>(n * voxels.columns);
    kept.features.insert(kept.features.end(), row + static_cast<std::ptrdiff_t>(dropped),
                         row + static_cast<std::ptrdiff_t>(voxels.columns));
  }
  return kept;
}

Voxels MakeVoxels(const PointCloud& cloud, const ModelInfo& model,
                  std::vector<std::ptrdiff_t> places, float fill) {
  if (!model.grid.has_value()) {
    ThrowInvalid("model ", model.name,
                 " takes voxels and its metadata has no point_range and voxel_size to make them "
                 "with: export it with both");
  }
  const size_t axes = model.grid->axes();
  if (cloud.columns() < axes) {
    ThrowInvalid("the points have ", cloud.columns(), " columns, the grid of model ", model.name,
                 " has ", axes, " axes");
  }
  // Where the features do not start with the coordinates, those go in front for the voxelizer.
  const bool starts_with_xyz =
      places.size() >= axes &&
      std::equal(cloud.fields.begin(), cloud.fields.begin() + static_cast<std::ptrdiff_t>(axes),
                 model.feature_names.begin());
  if (!starts_with_xyz) {
    for (size_t axis = axes; axis-- > 0;) {
      places.insert(places.begin(), static_cast<std::ptrdiff_t>(axis));
    }
  }
  const std::vector<float> values = Select(cloud, places, fill);
  Voxels voxels = Voxelize(values.data(), cloud.count(), places.size(), *model.grid);
  return starts_with_xyz ? voxels : DropColumns(voxels, axes);
}

}  // namespace

size_t Frame::count() const {
  return std::visit([](const auto& rows) { return rows.count(); }, payload);
}

size_t Frame::bytes() const {
  if (const auto* points = std::get_if<Points>(&payload)) {
    return points->values.size() * sizeof(float);
  }
  const Voxels& voxels = std::get<Voxels>(payload);
  return voxels.coords.size() * (voxels.FitsInt16() ? sizeof(int16_t) : sizeof(int32_t)) +
         voxels.features.size() * sizeof(float);
}

Frame MakeFrame(const PointCloud& cloud, const ModelInfo& model, std::optional<float> fill) {
  if (cloud.columns() == 0 || cloud.values.size() % cloud.columns() != 0) {
    ThrowInvalid("the cloud has ", cloud.values.size(), " values in ", cloud.columns(),
                 " columns, expected a whole number of points");
  }
  const std::vector<std::ptrdiff_t> places = FindColumns(cloud, model, fill.has_value());
  Frame frame;
  if (model.input_kind == "voxels") {
    frame.payload = MakeVoxels(cloud, model, places, fill.value_or(0.0F));
  } else if (model.input_kind == "points") {
    frame.payload = Points{places.size(), Select(cloud, places, fill.value_or(0.0F))};
  } else {
    ThrowInvalid("model ", model.name, " takes \"", model.input_kind,
                 "\", this client can make \"voxels\" and \"points\"");
  }
  return frame;
}

const Tensor* FrameResult::Output(const std::string& name) const {
  const auto found = std::find_if(outputs.begin(), outputs.end(),
                                  [&](const Tensor& tensor) { return tensor.name == name; });
  return found == outputs.end() ? nullptr : &*found;
}

}  // namespace voxgate
