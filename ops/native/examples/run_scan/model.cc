// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#include "model.h"

#include <algorithm>
#include <map>
#include <memory>
#include <stdexcept>

#include "json.h"
#include "rulebook/context.h"
#include "rulebook/voxelize.h"

// The operator library's one exported function.
extern "C" OrtStatus* RegisterCustomOps(OrtSessionOptions* options, const OrtApiBase* api);

// The tensors of one run and the memory behind them.
struct Model::Feeds {
  std::vector<float> points;
  std::vector<int32_t> point_batch;
  std::vector<int32_t> coords;
  std::vector<float> features;
  int64_t batch_size = 1;
  std::map<std::string, Ort::Value> values;

  template <typename T>
  void Add(const char* name, std::vector<T>& data, const std::vector<int64_t>& shape) {
    const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
    values.emplace(name, Ort::Value::CreateTensor<T>(memory, data.data(), data.size(), shape.data(),
                                                     shape.size()));
  }
};

namespace {

bool Contains(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

// The first `columns` columns of every point.
std::vector<float> TakeColumns(const Scan& scan, int64_t columns) {
  if (columns > scan.columns) {
    throw std::runtime_error("the model takes " + std::to_string(columns) +
                             " values a point, the scan has " + std::to_string(scan.columns));
  }
  std::vector<float> taken;
  taken.reserve(static_cast<size_t>(scan.rows() * columns));
  for (int64_t i = 0; i < scan.rows(); ++i) {
    const auto row = scan.points.begin() + i * scan.columns;
    taken.insert(taken.end(), row, row + columns);
  }
  return taken;
}

}  // namespace

Model::Model(const std::string& path, int threads)
    : env_(ORT_LOGGING_LEVEL_WARNING, "run_scan"), threads_(threads) {
  Ort::SessionOptions options;
  options.SetIntraOpNumThreads(threads);
  Ort::ThrowOnError(RegisterCustomOps(options, OrtGetApiBase()));
  session_ = Ort::Session(env_, path.c_str(), options);

  Ort::AllocatorWithDefaultOptions allocator;
  for (size_t i = 0; i < session_.GetInputCount(); ++i) {
    input_names_.emplace_back(session_.GetInputNameAllocated(i, allocator).get());
    if (input_names_.back() == "points" || input_names_.back() == "features") {
      num_features_ = session_.GetInputTypeInfo(i).GetTensorTypeAndShapeInfo().GetShape().at(1);
    }
  }
  for (size_t i = 0; i < session_.GetOutputCount(); ++i) {
    output_names_.emplace_back(session_.GetOutputNameAllocated(i, allocator).get());
  }
  const auto json =
      session_.GetModelMetadata().LookupCustomMetadataMapAllocated("voxgate", allocator);
  if (json == nullptr) throw std::runtime_error(path + " has no voxgate metadata");
  auto metadata = ObjectMembers(json.get());
  grid_.range = Numbers(metadata["point_range"]);
  grid_.voxel_size = Numbers(metadata["voxel_size"]);
  if (num_features_ < 1)
    throw std::runtime_error(path + " does not say how many features it takes");
}

void Model::FeedPoints(const Scan& scan, Feeds& feeds) const {
  feeds.points = TakeColumns(scan, num_features_);
  feeds.point_batch.assign(static_cast<size_t>(scan.rows()), 0);
  feeds.Add("points", feeds.points, {scan.rows(), num_features_});
  feeds.Add("point_batch", feeds.point_batch, {scan.rows()});
}

void Model::FeedVoxels(const Scan& scan, Feeds& feeds) const {
  if (grid_.voxel_size.empty()) {
    throw std::runtime_error("the model's metadata names no point_range and voxel_size");
  }
  feeds.points = TakeColumns(scan, num_features_);
  feeds.point_batch.assign(static_cast<size_t>(scan.rows()), 0);
  rulebook::VoxelizeOptions options;
  options.grid = grid_;
  std::vector<int32_t> point_voxel(static_cast<size_t>(scan.rows()));
  int64_t sites = 0;
  const auto pool = rulebook::MakeThreadPool(threads_);
  rulebook::Voxelize<rulebook::Device::kCpu>(
      *pool, feeds.points.data(), scan.rows(), num_features_, feeds.point_batch.data(), options,
      point_voxel.data(), [&](int64_t voxels) {
        sites = voxels;
        feeds.coords.resize(static_cast<size_t>(voxels * (1 + grid_.axes())));
        feeds.features.resize(static_cast<size_t>(voxels * num_features_));
        return rulebook::Voxels{feeds.coords.data(), feeds.features.data()};
      });
  feeds.Add("coords", feeds.coords, {sites, 1 + grid_.axes()});
  feeds.Add("features", feeds.features, {sites, num_features_});
}

std::vector<Ort::Value> Model::Run(const Scan& scan) {
  Feeds feeds;
  if (Contains(input_names_, "points")) {
    FeedPoints(scan, feeds);
  } else {
    FeedVoxels(scan, feeds);
  }
  const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
  feeds.values.emplace("batch_size",
                       Ort::Value::CreateTensor<int64_t>(memory, &feeds.batch_size, 1, nullptr, 0));

  std::vector<const char*> inputs;
  std::vector<Ort::Value> values;
  for (const std::string& name : input_names_) {
    const auto found = feeds.values.find(name);
    if (found == feeds.values.end()) throw std::runtime_error("unknown graph input " + name);
    inputs.push_back(name.c_str());
    values.push_back(std::move(found->second));
  }
  std::vector<const char*> outputs;
  for (const std::string& name : output_names_) outputs.push_back(name.c_str());
  return session_.Run(Ort::RunOptions{nullptr}, inputs.data(), values.data(), inputs.size(),
                      outputs.data(), outputs.size());
}
