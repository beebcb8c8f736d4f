// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// Sessions of ONNX Runtime with an operator library, and a layer to run in them.
#pragma once

#include <onnxruntime_cxx_api.h>

#include <string>
#include <utility>
#include <vector>

#include "../../../ops/native/onnxruntime/operator_times.h"
#include "onnx_writer.h"
#include "support.h"

namespace support {

// A session of two threads with the operators of `library`; `name` is its model's.
inline Ort::Session Open(const char* library, const std::string& model,
                         const char* name = nullptr) {
  static Ort::Env env(ORT_LOGGING_LEVEL_FATAL, "test");
  Ort::SessionOptions options;
  options.SetIntraOpNumThreads(2);
  if (name != nullptr) options.AddConfigEntry(VOXGATE_MODEL_CONFIG_ENTRY, name);
  options.RegisterCustomOpsLibrary(library);
  return Ort::Session(env, model.data(), model.size(), options);
}

struct Feed {
  const char* name;
  Ort::Value value;
};

template <typename T>
Feed Tensor(const char* name, std::vector<T>& values, std::vector<int64_t> dims) {
  const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
  return {name, Ort::Value::CreateTensor<T>(memory, values.data(), values.size(), dims.data(),
                                            dims.size())};
}

inline std::vector<Ort::Value> Run(Ort::Session& session, std::vector<Feed> feeds,
                                   const std::vector<const char*>& outputs) {
  std::vector<const char*> names;
  std::vector<Ort::Value> values;
  for (Feed& feed : feeds) {
    names.push_back(feed.name);
    values.push_back(std::move(feed.value));
  }
  return session.Run(Ort::RunOptions{nullptr}, names.data(), values.data(), names.size(),
                     outputs.data(), outputs.size());
}

template <typename... Feeds>
std::vector<Feed> MakeFeeds(Feeds&&... feeds) {
  std::vector<Feed> all;
  (all.push_back(std::forward<Feeds>(feeds)), ...);
  return all;
}

template <typename T>
std::vector<T> Values(const Ort::Value& value) {
  const T* data = value.GetTensorData<T>();
  return {data, data + value.GetTensorTypeAndShapeInfo().GetElementCount()};
}

// One submanifold layer of 4 → 8 channels on an 8 x 16 x 16 grid.
struct Layer {
  rulebook::SpatialShape grid = Axes({8, 16, 16});
  rulebook::WeightShape shape{27, 4, 8, 1};
  std::vector<float> weight = Random(8).Floats(27 * 4 * 8);
  Coords coords = RandomSites(2, grid, 6, 9);
  std::vector<float> features = Random(10).Floats(coords.rows() * 4);

  std::string Bytes() const {
    return onnx_writer::Model()
        .Input("coords", onnx_writer::kInt32, 2)
        .Input("features", onnx_writer::kFloat, 2)
        .Initializer("weight", {27, 4, 8}, weight)
        .Add(onnx_writer::Node("SubmanifoldRulebook", {"coords"}, {"neighbors"})
                 .Ints("kernel_size", {3, 3, 3})
                 .Ints("dilation", {1, 1, 1})
                 .Ints("spatial_shape", {8, 16, 16}))
        .Add(onnx_writer::Node("SparseConv", {"features", "neighbors", "weight"}, {"out"})
                 .Int("groups", 1)
                 .String("activation", "relu"))
        .Output("out", onnx_writer::kFloat, 2)
        .Bytes();
  }

  std::vector<float> Run(Ort::Session& session) {
    return Values<float>(support::Run(session,
                                      MakeFeeds(Tensor("coords", coords.values, {coords.rows(), 4}),
                                                Tensor("features", features, {coords.rows(), 4})),
                                      {"out"})[0]);
  }

  std::vector<float> Expected() const {
    const auto pool = rulebook::MakeThreadPool(1);
    const auto packed = rulebook::PackWeight<kCpu, float>(*pool, weight.data(), shape);
    const auto neighbors = Submanifold(*pool, coords, grid, Axes({3, 3, 3}));
    return Convolve(*pool, features, coords.rows(), neighbors, coords.rows(), shape, *packed);
  }
};

}  // namespace support
