// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// Frames to messages and back: what is packed how, and that no size is believed.
#include "messages.h"

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "check.h"
#include "model_info.h"

namespace voxgate {
namespace {

Frame VoxelFrame(std::vector<int32_t> coords) {
  Voxels voxels;
  voxels.axes = 3;
  voxels.columns = 2;
  voxels.features.resize(coords.size() / 3 * 2);
  voxels.coords = std::move(coords);
  return {"", "roof", std::nullopt, voxels};
}

v1::InferResponse Response(v1::DataType dtype, const std::vector<int64_t>& shape, size_t bytes) {
  v1::InferResponse message;
  v1::Tensor* const tensor = message.add_outputs();
  tensor->set_name("label");
  tensor->set_dtype(dtype);
  for (const int64_t length : shape) tensor->add_shape(length);
  tensor->set_data(std::string(bytes, '\0'));
  return message;
}

Tensor Halves(DataType dtype, const std::vector<uint16_t>& bits) {
  Tensor tensor;
  tensor.name = "x";
  tensor.dtype = dtype;
  tensor.data.assign(reinterpret_cast<const char*>(bits.data()), bits.size() * 2);
  return tensor;
}

ModelInfo Model(const std::string& metadata) {
  v1::ModelInfo message;
  message.set_name("unet");
  message.set_state(v1::ModelInfo::READY);
  message.set_input_kind("voxels");
  for (const char* name : {"x", "y", "z", "intensity"}) message.add_feature_names(name);
  message.set_metadata_json(metadata);
  return ParseModel(message);
}

PointCloud Cloud() {
  return {{"x", "y", "z", "intensity"}, {0.5F, 0.5F, 0.5F, 1, 0.5F, 0.5F, 0.5F, 3}};
}

const char* const kGrid = R"({"point_range": [0, 0, 0, 2, 2, 2], "voxel_size": [1, 1, 1]})";

}  // namespace

TEST(SmallCoordsAreSentAsInt16) {
  const auto small = FrameMessage(VoxelFrame({0, -32768, 32767})).frame().voxels();
  CHECK_EQ(small.coords_dtype(), v1::INT16);
  CHECK_EQ(small.coords().size(), 6U);
  CHECK_EQ(small.num_sites(), 1U);
  CHECK_EQ(small.num_features(), 2U);
  const auto large = FrameMessage(VoxelFrame({0, 0, 32768})).frame().voxels();
  CHECK_EQ(large.coords_dtype(), v1::INT32);
  CHECK_EQ(large.coords().size(), 12U);
}

TEST(AFrameKnowsItsBytes) {
  for (const int32_t coordinate : {7, 70'000}) {
    const Frame frame = VoxelFrame({0, 0, coordinate});
    CHECK_EQ(frame.bytes(), PayloadBytes(FrameMessage(frame).frame()));
  }
}

TEST(PointsAreSentAsTheyAre) {
  const Frame frame{"", "", std::nullopt, Points{4, {1, 2, 3, 4, 5, 6, 7, 8}}};
  const auto message = FrameMessage(frame).frame();
  CHECK_EQ(message.points().num_points(), 2U);
  CHECK_EQ(message.points().num_fields(), 4U);
  CHECK_EQ(PayloadBytes(message), 32U);
  CHECK_EQ(frame.bytes(), 32U);
}

TEST(TheTimeOfCaptureIsKept) {
  Frame frame = VoxelFrame({});
  frame.captured_at = std::chrono::system_clock::time_point(std::chrono::milliseconds(1'500));
  const auto message = FrameMessage(frame).frame();
  CHECK_EQ(message.captured_at().seconds(), 1);
  CHECK_EQ(message.captured_at().nanos(), 500'000'000);
  CHECK(!FrameMessage(VoxelFrame({})).frame().has_captured_at());
}

TEST(ArraysThatDisagreeAreRefused) {
  Frame frame = VoxelFrame({1, 2, 3});
  std::get<Voxels>(frame.payload).features.resize(3);
  CHECK_THROWS(Error, "3 features in 2 columns, expected 1 rows", FrameMessage(frame));
  frame = VoxelFrame({1, 2, 3});
  std::get<Voxels>(frame.payload).coords.resize(4);
  CHECK_THROWS(Error, "4 values on 3 axes", FrameMessage(frame));
  std::get<Voxels>(frame.payload).axes = 0;
  CHECK_THROWS(Error, "on 0 axes", FrameMessage(frame));
  frame.payload = Points{4, {1, 2, 3}};
  CHECK_THROWS(Error, "3 values in 4 columns", FrameMessage(frame));
}

TEST(FrameIdsHaveBounds) {
  CheckFrameId(std::string(128, 'x'));
  CHECK_THROWS(Error, "129 bytes, expected 1 to 128", CheckFrameId(std::string(129, 'x')));
}

TEST(DeadlinesHaveBounds) {
  StreamOptions options;
  options.frame_deadline = Seconds(1.5);
  const auto message = OpenMessage("unet", options);
  CHECK_EQ(message.open().frame_deadline().seconds(), 1);
  CHECK_EQ(message.open().frame_deadline().nanos(), 500'000'000);
  for (const double seconds : {0.0, -1.0, 1e300, std::nan("")}) {
    options.frame_deadline = Seconds(seconds);
    CHECK_THROWS(Error, "expected above 0", OpenMessage("unet", options));
  }
}

TEST(AnswersAreParsed) {
  v1::InferResponse message = Response(v1::INT32, {2, 3}, 24);
  message.set_frame_id("7");
  message.mutable_timing()->set_execute_us(5);
  const FrameResult result = ParseResult(&message);
  CHECK_EQ(result.frame_id, "7");
  CHECK_EQ(result.timing.execute_us, 5U);
  CHECK(result.Output("label")->shape == (std::vector<int64_t>{2, 3}));
  CHECK(result.Output("label")->Integers() == std::vector<int64_t>(6, 0));
  CHECK(result.Output("none") == nullptr);
  CHECK_THROWS(Error, "int32, no float type", result.Output("label")->Floats());
}

TEST(AnswersThatContradictThemselvesAreRefused) {
  const auto refused = [](v1::DataType dtype, const std::vector<int64_t>& shape, size_t bytes,
                          const char* part) {
    v1::InferResponse message = Response(dtype, shape, bytes);
    CHECK_THROWS(Error, part, ParseResult(&message));
  };
  refused(v1::INT32, {3}, 11, "is 12 bytes, got 11");
  refused(v1::INT32, {-1}, 4, "no possible size");
  refused(v1::INT32, {0, -1}, 0, "no possible size");
  refused(v1::INT64, {int64_t{1} << 32, int64_t{1} << 32}, 8, "no possible size");
  refused(v1::INT64, {int64_t{1} << 61}, 0, "no possible size");
  refused(v1::DATA_TYPE_UNSPECIFIED, {1}, 4, "unknown dtype 0");
  refused(static_cast<v1::DataType>(99), {1}, 4, "unknown dtype 99");
  v1::InferResponse empty = Response(v1::FLOAT32, {0, std::numeric_limits<int64_t>::max()}, 0);
  CHECK_EQ(ParseResult(&empty).outputs[0].size(), 0U);
}

TEST(HalfFloatsAreWidened) {
  const auto values =
      Halves(DataType::kFloat16, {0x3C00, 0xC000, 0x0001, 0x7C00, 0x0000, 0x7BFF}).Floats();
  CHECK(values == (std::vector<float>{1, -2, std::ldexp(1.0F, -24),
                                      std::numeric_limits<float>::infinity(), 0, 65504}));
  CHECK(std::isnan(Halves(DataType::kFloat16, {0x7E00}).Floats()[0]));
  CHECK(Halves(DataType::kBfloat16, {0x3F80, 0xC040}).Floats() == (std::vector<float>{1, -3}));
}

TEST(FramesAreMadeOfWhatTheModelNames) {
  const Frame frame = MakeFrame(Cloud(), Model(kGrid));
  const auto& voxels = std::get<Voxels>(frame.payload);
  CHECK(voxels.coords == (std::vector<int32_t>{0, 0, 0}));
  CHECK(voxels.features == (std::vector<float>{0.5F, 0.5F, 0.5F, 2}));

  ModelInfo model = Model(kGrid);
  model.feature_names = {"intensity"};
  const Frame narrow = MakeFrame(Cloud(), model);
  CHECK(std::get<Voxels>(narrow.payload).features == (std::vector<float>{2}));

  model.input_kind = "points";
  model.feature_names = {"x", "y", "z", "ring"};
  CHECK_THROWS(Error, "no column ring, the points have x, y, z, intensity",
               MakeFrame(Cloud(), model));
  const Frame filled = MakeFrame(Cloud(), model, 7.0F);
  CHECK(std::get<Points>(filled.payload).values ==
        (std::vector<float>{0.5F, 0.5F, 0.5F, 7, 0.5F, 0.5F, 0.5F, 7}));
}

TEST(AModelOfVoxelsNeedsAGrid) {
  for (const char* metadata : {"", "{", "[]", "{}", R"({"point_range": [0, 0, 0, 2, 2, 2]})",
                               R"({"point_range": [0, 0, 0, 0, 2, 2], "voxel_size": [1, 1, 1]})",
                               R"({"point_range": [0, 0, 0, "2", 2, 2], "voxel_size": [1, 1, 1]})",
                               R"({"point_range": 3, "voxel_size": null, "class_names": 3})"}) {
    CHECK(!Model(metadata).grid.has_value());
    CHECK_THROWS(Error, "no point_range and voxel_size", MakeFrame(Cloud(), Model(metadata)));
  }
  CHECK(Model(R"({"class_names": ["car", 3]})").class_names ==
        (std::vector<std::string>{"car", "3"}));
}

TEST(OtherKindsOfInputAreRefused) {
  ModelInfo model = Model(kGrid);
  model.input_kind = "images";
  CHECK_THROWS(Error, "takes \"images\"", MakeFrame(Cloud(), model));
}

}  // namespace voxgate
