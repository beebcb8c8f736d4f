// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// The operator library inside ONNX Runtime: right answers, malformed input and models, one session
// in many threads, and what is counted.
#include <dlfcn.h>
#include <onnxruntime_cxx_api.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "check.h"
#include "onnx_writer.h"
#include "page_flags.h"
#include "session_support.h"

using onnx_writer::kFloat;
using onnx_writer::kInt32;
using onnx_writer::kInt64;
using onnx_writer::Model;
using onnx_writer::Node;
using support::Layer;
using support::MakeFeeds;
using support::Run;
using support::Tensor;
using support::Values;

namespace {

Ort::Session Open(const std::string& model, const char* name = nullptr) {
  return support::Open(VOXGATE_OPERATORS, model, name);
}

}  // namespace

TEST(ALayerInASessionGivesTheLibrarysBytes) {
  Layer layer;
  Ort::Session session = Open(layer.Bytes());
  CHECK(layer.Run(session) == layer.Expected());
}

TEST(OutputsLieOnLargePages) {
  constexpr int64_t kRows = 8192, kChannels = 64;
  const std::string model = Model()
                                .Input("features", kFloat, 2)
                                .Input("rows", kInt32, 1)
                                .Add(Node("GatherRows", {"features", "rows"}, {"out"}))
                                .Output("out", kFloat, 2)
                                .Bytes();
  Ort::Session session = Open(model);
  std::vector<float> features(kChannels, 1.0F);
  std::vector<int32_t> rows(kRows, 0);
  const Ort::Value out = std::move(
      Run(session,
          MakeFeeds(Tensor("features", features, {1, kChannels}), Tensor("rows", rows, {kRows})),
          {"out"})[0]);
  const float* data = out.GetTensorData<float>();
  CHECK_EQ(support::IsAdvised(data), support::SystemHasLargePages());
  CHECK_EQ(support::IsAdvised(data + kRows * kChannels - 1), support::SystemHasLargePages());
}

TEST(OneSessionInEightThreadsGivesTheSameBytes) {
  Layer layer;
  Ort::Session session = Open(layer.Bytes());
  const auto expected = layer.Expected();
  std::vector<int> equal(8);
  std::vector<std::thread> threads;
  for (int& count : equal) {
    threads.emplace_back([&session, &expected, &count] {
      Layer own;
      for (int round = 0; round < 5; ++round) count += own.Run(session) == expected ? 1 : 0;
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const int count : equal) CHECK_EQ(count, 5);
}

TEST(MalformedFeedsAreErrorsAndTheNextRunIsRight) {
  Layer layer;
  Ort::Session session = Open(layer.Bytes());
  const auto expected = layer.Expected();
  const auto refuse = [&](const char* part, std::vector<int32_t> coords,
                          std::vector<int64_t> coords_dims, std::vector<int64_t> features_dims) {
    int64_t count = 1;
    for (const int64_t dim : features_dims) count *= dim;
    std::vector<float> features(static_cast<size_t>(count), 1.0F);
    CHECK_THROWS(Ort::Exception, part,
                 Run(session,
                     MakeFeeds(Tensor("coords", coords, coords_dims),
                               Tensor("features", features, features_dims)),
                     {"out"}));
    CHECK(layer.Run(session) == expected);
  };
  refuse("16", {0, 1, 2, 16}, {1, 4}, {1, 4});           // outside the grid
  refuse("-1", {0, 1, -1, 3}, {1, 4}, {1, 4});           // negative
  refuse("-7", {-7, 1, 1, 3}, {1, 4}, {1, 4});           // negative batch index
  refuse("", {0, 1, 2, 3, 0, 1, 2, 3}, {2, 4}, {2, 4});  // twice the same
  refuse("", {0, 1, 2, 4, 0, 1, 2, 3}, {2, 4}, {2, 4});  // out of order
  refuse("", {0, 1, 2}, {1, 3}, {1, 4});                 // an axis is missing
  refuse("", {0, 1, 2, 3, 4}, {1, 5}, {1, 4});           // an axis too many
  refuse("5", {0, 1, 2, 3}, {1, 4}, {1, 5});             // channels the weight does not have
  refuse("", {0, 1, 2, 3}, {4}, {1, 4});                 // coords of rank 1
  refuse("", {0, 1, 2, 3}, {1, 4}, {0, 4});              // fewer rows than neighbors name
}

TEST(NoSitesAreLegal) {
  Layer layer;
  Ort::Session session = Open(layer.Bytes());
  std::vector<int32_t> coords;
  std::vector<float> features;
  const auto out = Run(
      session, MakeFeeds(Tensor("coords", coords, {0, 4}), Tensor("features", features, {0, 4})),
      {"out"});
  CHECK(out[0].GetTensorTypeAndShapeInfo().GetShape() == (std::vector<int64_t>{0, 8}));
}

TEST(ModelsWithBrokenAttributesAreRefusedAtLoad) {
  const auto refuse = [](const char* part, const Node& node) {
    const std::string model =
        Model().Input("coords", kInt32, 2).Add(node).Output("neighbors", kInt32, 2).Bytes();
    CHECK_THROWS(Ort::Exception, part, Open(model));
  };
  const auto node = [] { return Node("SubmanifoldRulebook", {"coords"}, {"neighbors"}); };
  const std::vector<int64_t> ones = {1, 1, 1};
  const std::vector<int64_t> threes = {3, 3, 3};
  Open(Model()
           .Input("coords", kInt32, 2)
           .Add(node()
                    .Ints("kernel_size", threes)
                    .Ints("dilation", ones)
                    .Ints("spatial_shape", {8, 8, 8}))
           .Output("neighbors", kInt32, 2)
           .Bytes());
  refuse("spatial_shape", node().Ints("kernel_size", threes).Ints("dilation", ones));
  refuse("kernel_size", node().Ints("spatial_shape", {8, 8, 8}).Ints("dilation", ones));
  refuse("2", node()
                  .Ints("kernel_size", {3, 2, 3})
                  .Ints("dilation", ones)
                  .Ints("spatial_shape", {8, 8, 8}));
  refuse("0", node()
                  .Ints("kernel_size", threes)
                  .Ints("dilation", {1, 0, 1})
                  .Ints("spatial_shape", {8, 8, 8}));
  refuse(
      "",
      node().Ints("kernel_size", {3, 3}).Ints("dilation", ones).Ints("spatial_shape", {8, 8, 8}));
  refuse("2147483647", node()
                           .Ints("kernel_size", threes)
                           .Ints("dilation", ones)
                           .Ints("spatial_shape", {2147483647, 2147483647, 2147483647}));
  refuse("kernel_size", node()
                            .String("kernel_size", "three")
                            .Ints("dilation", ones)
                            .Ints("spatial_shape", {8, 8, 8}));
}

TEST(TruncatedModelsAreRefused) {
  const std::string model = Layer().Bytes();
  Open(model);  // whole, it loads
  for (const size_t size : {size_t{0}, size_t{1}, model.size() / 2, model.size() - 1}) {
    CHECK_THROWS(Ort::Exception, "", Open(model.substr(0, size)));
  }
}

TEST(ABatchSizeThatWouldFillMemoryIsAnError) {
  const std::string model =
      Model()
          .Input("coords", kInt32, 2)
          .Input("features", kFloat, 2)
          .Input("batch_size", kInt64, 0)
          .Add(Node("SparseToDense", {"coords", "features", "batch_size"}, {"dense"})
                   .Ints("spatial_shape", {64, 1024, 1024}))
          .Output("dense", kFloat, 5)
          .Bytes();
  Ort::Session session = Open(model);
  for (int64_t size : {int64_t{4096}, int64_t{1} << 40, int64_t{-1}, INT64_MAX, INT64_MIN}) {
    std::vector<int32_t> coords = {0, 1, 2, 3};
    std::vector<float> features = {1};
    std::vector<int64_t> batch_size = {size};
    CHECK_THROWS(
        Ort::Exception, std::to_string(size),
        Run(session,
            MakeFeeds(Tensor("coords", coords, {1, 4}), Tensor("features", features, {1, 1}),
                      Tensor("batch_size", batch_size, {})),
            {"dense"}));
  }
}

TEST(RowsOutOfRangeAreErrors) {
  const std::string model = Model()
                                .Input("x", kFloat, 2)
                                .Input("row", kInt32, 1)
                                .Add(Node("GatherRows", {"x", "row"}, {"out"}).Float("fill", 0))
                                .Output("out", kFloat, 2)
                                .Bytes();
  Ort::Session session = Open(model);
  std::vector<float> x = {1, 2, 3, 4};
  std::vector<int32_t> row = {1, -1, 0};
  const auto out =
      Run(session, MakeFeeds(Tensor("x", x, {2, 2}), Tensor("row", row, {3})), {"out"});
  CHECK(Values<float>(out[0]) == (std::vector<float>{3, 4, 0, 0, 1, 2}));
  for (const int32_t bad : {2, -2, INT32_MAX, INT32_MIN}) {
    row[1] = bad;
    CHECK_THROWS(Ort::Exception, std::to_string(bad),
                 Run(session, MakeFeeds(Tensor("x", x, {2, 2}), Tensor("row", row, {3})), {"out"}));
  }
}

TEST(CallsAreCountedUnderTheSessionsModel) {
  using Read = size_t (*)(VoxgateOperatorTime*, size_t);
  const auto read =
      reinterpret_cast<Read>(dlsym(dlopen(VOXGATE_OPERATORS, RTLD_NOW), "VoxgateOperatorTimes"));
  CHECK(read != nullptr);
  const auto calls = [read](const std::string& model, const std::string& name) {
    std::vector<VoxgateOperatorTime> rows(read(nullptr, 0));
    rows.resize(read(rows.data(), rows.size()));
    for (const VoxgateOperatorTime& row : rows) {
      if (row.model == model && row.operator_name == name) return static_cast<int>(row.calls);
    }
    return -1;
  };
  Layer layer;
  CHECK_EQ(calls("named", "SparseConv"), -1);
  for (int session = 0; session < 2; ++session) {  // the second one counts where the first did
    Ort::Session named = Open(layer.Bytes(), "named");
    CHECK_EQ(calls("named", "SparseConv"), 2 * session);
    layer.Run(named);
    layer.Run(named);
  }
  CHECK_EQ(calls("named", "SparseConv"), 4);
  CHECK_EQ(calls("named", "SubmanifoldRulebook"), 4);
  CHECK_EQ(calls("named", "SparsePool"), -1);
  const int unnamed = std::max(calls("", "SparseConv"), 0);
  Ort::Session other = Open(layer.Bytes());
  layer.Run(other);
  CHECK_EQ(calls("", "SparseConv"), unnamed + 1);
  CHECK_EQ(calls("named", "SparseConv"), 4);
}
