// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#include "messages.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "host.h"
#include "text.h"

namespace voxgate {
namespace {

constexpr size_t kMaxFrameIdBytes = 128;
// A protobuf message ends at 2 GiB; this leaves room for what surrounds the arrays.
constexpr uint64_t kMaxPayloadBytes = (uint64_t{1} << 31) - (1 << 16);
constexpr double kMaxDeadlineSeconds = 86'400;
constexpr size_t kMaxAxes = 4;

template <typename T>
void SetBytes(const std::vector<T>& values, std::string* bytes) {
  bytes->assign(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
}

uint32_t Count(const char* what, size_t count) {
  if (count > std::numeric_limits<uint32_t>::max()) {
    ThrowInvalid("the frame has ", count, " ", what, ", expected at most ",
                 std::numeric_limits<uint32_t>::max());
  }
  return static_cast<uint32_t>(count);
}

void CheckPayloadBytes(uint64_t bytes) {
  if (bytes > kMaxPayloadBytes) {
    ThrowInvalid("the frame has ", bytes, " bytes, a message takes at most ", kMaxPayloadBytes);
  }
}

void Pack(const Points& points, v1::Frame* message) {
  if (points.columns < 3 || points.values.size() % points.columns != 0) {
    ThrowInvalid("points have ", points.values.size(), " values in ", points.columns,
                 " columns, expected at least 3 columns and whole rows");
  }
  CheckPayloadBytes(points.values.size() * sizeof(float));
  v1::PointCloud* const cloud = message->mutable_points();
  cloud->set_num_points(Count("points", points.count()));
  cloud->set_num_fields(Count("columns", points.columns));
  cloud->set_dtype(v1::FLOAT32);
  SetBytes(points.values, cloud->mutable_points());
}

void Pack(const Voxels& voxels, v1::Frame* message) {
  if (voxels.axes < 1 || voxels.axes > kMaxAxes || voxels.coords.size() % voxels.axes != 0) {
    ThrowInvalid("coords have ", voxels.coords.size(), " values on ", voxels.axes,
                 " axes, expected 1 to ", kMaxAxes, " axes and whole rows");
  }
  const size_t values = voxels.features.size();
  if (voxels.columns < 1 || values % voxels.columns != 0 ||
      values / voxels.columns != voxels.count()) {
    ThrowInvalid(values, " features in ", voxels.columns, " columns, expected ", voxels.count(),
                 " rows, one for each row of coords");
  }
  CheckPayloadBytes(voxels.coords.size() * sizeof(int32_t) + values * sizeof(float));
  v1::SparseVoxels* const sites = message->mutable_voxels();
  sites->set_num_sites(Count("sites", voxels.count()));
  sites->set_num_features(Count("features", voxels.columns));
  sites->set_features_dtype(v1::FLOAT32);
  SetBytes(voxels.features, sites->mutable_features());
  const bool narrow = voxels.FitsInt16();
  sites->set_coords_dtype(narrow ? v1::INT16 : v1::INT32);
  if (narrow) {
    std::vector<int16_t> coords(voxels.coords.size());
    std::transform(voxels.coords.begin(), voxels.coords.end(), coords.begin(),
                   [](int32_t coordinate) { return static_cast<int16_t>(coordinate); });
    SetBytes(coords, sites->mutable_coords());
  } else {
    SetBytes(voxels.coords, sites->mutable_coords());
  }
}

DataType ParseType(const v1::Tensor& message) {
  if (message.dtype() < v1::FLOAT32 || message.dtype() > v1::BOOL) {
    throw Error(StatusCode::kInternal,
                Text("output ", message.name(), ": unknown dtype ", int{message.dtype()}));
  }
  return static_cast<DataType>(message.dtype() - v1::FLOAT32);
}

// Bytes that the shape says; none if it is negative or cannot be counted.
std::optional<uint64_t> ShapeBytes(const v1::Tensor& message, size_t width) {
  const auto& shape = message.shape();
  if (std::any_of(shape.begin(), shape.end(), [](int64_t length) { return length < 0; })) {
    return std::nullopt;
  }
  if (std::find(shape.begin(), shape.end(), 0) != shape.end()) return 0;
  uint64_t bytes = width;
  for (const int64_t length : shape) {
    const auto factor = static_cast<uint64_t>(length);
    if (bytes > std::numeric_limits<uint64_t>::max() / factor) return std::nullopt;
    bytes *= factor;
  }
  return bytes;
}

Tensor ParseTensor(v1::Tensor* message) {
  Tensor tensor;
  tensor.dtype = ParseType(*message);
  const auto expected = ShapeBytes(*message, Width(tensor.dtype));
  if (!expected.has_value() || *expected != message->data().size()) {
    throw Error(
        StatusCode::kInternal,
        Text("output ", message->name(), ": shape [", Joined(message->shape()), "] of ",
             Name(tensor.dtype), " is ",
             expected.has_value() ? std::to_string(*expected) + " bytes" : "no possible size",
             ", got ", message->data().size()));
  }
  tensor.name = message->name();
  tensor.shape = {message->shape().begin(), message->shape().end()};
  tensor.data = std::move(*message->mutable_data());
  return tensor;
}

}  // namespace

v1::StreamRequest OpenMessage(const std::string& model, const StreamOptions& options) {
  v1::StreamRequest request;
  v1::StreamOpen* const open = request.mutable_open();
  open->set_model(model);
  open->set_version(options.version);
  for (const std::string& output : options.outputs) open->add_outputs(output);
  open->set_policy(options.policy == QueuePolicy::kLatest ? v1::LATEST : v1::FIFO);
  open->set_max_queued_frames(options.max_queued_frames);
  open->set_priority(options.priority);
  open->set_unordered(options.unordered);
  if (options.frame_deadline.has_value()) {
    const double seconds = options.frame_deadline->count();
    if (!(seconds > 0 && seconds <= kMaxDeadlineSeconds)) {
      ThrowInvalid("frame_deadline is ", seconds, " s, expected above 0 and at most ",
                   kMaxDeadlineSeconds);
    }
    const auto nanoseconds = static_cast<int64_t>(std::llround(seconds * 1e9));
    open->mutable_frame_deadline()->set_seconds(nanoseconds / 1'000'000'000);
    open->mutable_frame_deadline()->set_nanos(static_cast<int32_t>(nanoseconds % 1'000'000'000));
  }
  return request;
}

v1::StreamRequest FrameMessage(const Frame& frame) {
  v1::StreamRequest request;
  v1::Frame* const message = request.mutable_frame();
  message->set_sensor_id(frame.sensor_id);
  if (frame.captured_at.has_value()) {
    const int64_t nanoseconds =
        std::chrono::duration_cast<std::chrono::nanoseconds>(frame.captured_at->time_since_epoch())
            .count();
    if (nanoseconds < 0) ThrowInvalid("captured_at lies before 1970");
    message->mutable_captured_at()->set_seconds(nanoseconds / 1'000'000'000);
    message->mutable_captured_at()->set_nanos(static_cast<int32_t>(nanoseconds % 1'000'000'000));
  }
  std::visit([&](const auto& payload) { Pack(payload, message); }, frame.payload);
  return request;
}

void CheckFrameId(const std::string& frame_id) {
  if (frame_id.empty() || frame_id.size() > kMaxFrameIdBytes) {
    ThrowInvalid("frame_id has ", frame_id.size(), " bytes, expected 1 to ", kMaxFrameIdBytes);
  }
}

uint64_t PayloadBytes(const v1::Frame& message) {
  return message.voxels().coords().size() + message.voxels().features().size() +
         message.points().points().size();
}

FrameResult ParseResult(v1::InferResponse* message) {
  FrameResult result;
  result.frame_id = message->frame_id();
  result.sensor_id = message->sensor_id();
  result.model = message->model();
  result.version = message->version();
  for (v1::Tensor& tensor : *message->mutable_outputs()) {
    result.outputs.push_back(ParseTensor(&tensor));
  }
  const v1::Timing& timing = message->timing();
  result.timing = {timing.receive_us(),   timing.decode_us(),  timing.queue_us(),
                   timing.execute_us(),   timing.encode_us(),  timing.total_us(),
                   timing.batch_frames(), timing.batch_sites()};
  return result;
}

}  // namespace voxgate
