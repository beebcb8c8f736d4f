// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// The operators on points and boxes: Voxelize, SparseInterpolate and RotatedNms.
#include <limits>

#include "families.h"
#include "rulebook/interpolate.h"
#include "rulebook/nms.h"
#include "rulebook/voxelize.h"

namespace voxgate {
namespace {

using rulebook::Device;
using rulebook::ThrowInvalid;

constexpr int64_t kMaxCount = std::numeric_limits<int64_t>::max();

rulebook::VoxelGrid ReadGrid(const Attributes& attributes) {
  rulebook::VoxelGrid grid;
  grid.range = attributes.Floats("point_range");
  grid.voxel_size = attributes.Floats("voxel_size");
  grid.Check();
  rulebook::CheckSpatialShape(grid.Shape());
  return grid;
}

// Throws unless points [P, F >= axes] and point_batch [P] go together.
void CheckPoints(const Tensor<float>& points, const Tensor<int32_t>& point_batch, int axes) {
  if (points.shape[1] < axes) {
    ThrowInvalid(points.name(), " has shape ", ToString(points.shape), ", a grid of ", axes,
                 " axes needs ", axes, " or more columns");
  }
  ExpectSize(point_batch, 0, "values", points.shape[0], points);
}

template <Device D>
class VoxelizeKernel {
 public:
  static constexpr Device kDevice = D;
  static constexpr const char* kName = "Voxelize";
  static constexpr Port kInputs[] = {MakePort<float>("points", "[P, F]"),
                                     MakePort<int32_t>("point_batch", "[P]")};
  static constexpr Port kOutputs[] = {MakePort<int32_t>("coords", "[V, 1 + D]"),
                                      MakePort<float>("features", "[V, F]"),
                                      MakePort<int32_t>("point_voxel", "[P]")};

  explicit VoxelizeKernel(const Attributes& attributes) {
    options_.grid = ReadGrid(attributes);
    options_.reduce = attributes.Choice("reduce", kReduce, {rulebook::VoxelReduce::kMean});
    options_.max_points = attributes.Int("max_points", 0, 0, kMaxCount);
    options_.max_voxels = attributes.Int("max_voxels", 0, 0, kMaxCount);
  }

  void Compute(Call<D>& call) const {
    const Tensor<float> points = call.template Input<float>(0);
    const Tensor<int32_t> point_batch = call.template Input<int32_t>(1);
    const int axes = options_.grid.axes();
    CheckPoints(points, point_batch, axes);
    auto* point_voxel = call.template Output<int32_t>(2, {points.shape[0]});
    rulebook::Voxelize<D>(call.context(), points.data, points.shape[0], points.shape[1],
                          point_batch.data, options_, point_voxel, [&](int64_t voxels) {
                            return rulebook::Voxels{
                                call.template Output<int32_t>(0, {voxels, axes + 1}),
                                call.template Output<float>(1, {voxels, points.shape[1]})};
                          });
  }

  static void InferShapes(ShapeInference& shapes) {
    const ShapeInference::Dim voxels = shapes.NewSymbol();
    shapes.Set(0, {voxels, static_cast<int64_t>(shapes.Floats("voxel_size").size()) + 1});
    shapes.Set(1, {voxels, shapes.InputDim(0, 1)});
    shapes.Set(2, {shapes.InputDim(0, 0)});
  }

 private:
  static constexpr Names<rulebook::VoxelReduce, 4> kReduce = {
      {{"mean", rulebook::VoxelReduce::kMean},
       {"max", rulebook::VoxelReduce::kMax},
       {"sum", rulebook::VoxelReduce::kSum},
       {"first", rulebook::VoxelReduce::kFirst}}};

  rulebook::VoxelizeOptions options_;
};

template <Device D, typename T>
class SparseInterpolateKernel {
 public:
  static constexpr Device kDevice = D;
  static constexpr const char* kName = "SparseInterpolate";
  static constexpr Port kInputs[] = {
      MakePort<T>("features", "[N, C]"), MakePort<int32_t>("coords", "[N, 1 + D]"),
      MakePort<float>("points", "[P, D or more]"), MakePort<int32_t>("point_batch", "[P]")};
  static constexpr Port kOutputs[] = {MakePort<T>("sampled", "[P, C]")};

  explicit SparseInterpolateKernel(const Attributes& attributes) {
    options_.grid = ReadGrid(attributes);
    options_.mode = attributes.Choice("mode", kModes, {rulebook::InterpolateMode::kTrilinear});
    options_.anchor = attributes.Choice("anchor", kAnchors, {rulebook::InterpolateAnchor::kCenter});
    options_.normalize = attributes.Flag("normalize", true);
  }

  void Compute(Call<D>& call) const {
    const Tensor<T> features = call.template Input<T>(0);
    const Tensor<int32_t> coords = call.template Input<int32_t>(1);
    const Tensor<float> points = call.template Input<float>(2);
    const Tensor<int32_t> point_batch = call.template Input<int32_t>(3);
    const int axes = options_.grid.axes();
    ExpectSize(features, 0, "rows", coords.shape[0], coords);
    CheckPoints(points, point_batch, axes);
    const rulebook::CoordsView sites = AsCoords(coords, axes);
    T* out = call.template Output<T>(0, {points.shape[0], features.shape[1]});
    rulebook::SparseInterpolate<D, T>(call.context(), sites, features.data, features.shape[1],
                                      points.data, points.shape[0], points.shape[1],
                                      point_batch.data, options_, out);
  }

  static void InferShapes(ShapeInference& shapes) {
    shapes.Set(0, {shapes.InputDim(2, 0), shapes.InputDim(0, 1)});
  }

 private:
  static constexpr Names<rulebook::InterpolateMode, 2> kModes = {
      {{"nearest", rulebook::InterpolateMode::kNearest},
       {"trilinear", rulebook::InterpolateMode::kTrilinear}}};
  static constexpr Names<rulebook::InterpolateAnchor, 2> kAnchors = {
      {{"center", rulebook::InterpolateAnchor::kCenter},
       {"corner", rulebook::InterpolateAnchor::kCorner}}};

  rulebook::InterpolateOptions options_;
};

template <Device D>
class RotatedNmsKernel {
 public:
  static constexpr Device kDevice = D;
  static constexpr const char* kName = "RotatedNms";
  static constexpr Port kInputs[] = {MakePort<float>("boxes", "[R, 7]"),
                                     MakePort<float>("scores", "[R]"),
                                     MakePort<int32_t>("frame", "[R]")};
  static constexpr Port kOutputs[] = {MakePort<int64_t>("kept", "[Q]")};

  explicit RotatedNmsKernel(const Attributes& attributes) {
    options_.iou_threshold = attributes.Float("iou_threshold", std::nullopt);
    options_.score_threshold = attributes.Float("score_threshold", 0.0F);
    options_.max_per_frame = attributes.Int("max_per_frame", 0, 0, kMaxCount);
    if (options_.iou_threshold < 0.0F || options_.iou_threshold > 1.0F) {
      ThrowInvalid("attribute iou_threshold is ", options_.iou_threshold,
                   ", expected a value in [0, 1]");
    }
  }

  void Compute(Call<D>& call) const {
    const Tensor<float> boxes = call.template Input<float>(0);
    const Tensor<float> scores = call.template Input<float>(1);
    const Tensor<int32_t> frame = call.template Input<int32_t>(2);
    if (boxes.shape[1] != 7) {
      ThrowInvalid("boxes has shape ", ToString(boxes.shape), ", expected [R, 7]");
    }
    ExpectSize(scores, 0, "values", boxes.shape[0], boxes);
    ExpectSize(frame, 0, "values", boxes.shape[0], boxes);
    rulebook::RotatedNms<D>(call.context(), boxes.data, scores.data, frame.data, boxes.shape[0],
                            options_,
                            [&](int64_t kept) { return call.template Output<int64_t>(0, {kept}); });
  }

  static void InferShapes(ShapeInference& shapes) { shapes.Set(0, {shapes.NewSymbol()}); }

 private:
  rulebook::NmsOptions options_;
};

}  // namespace

template <Device D>
void AddPointOperators(OperatorList& list) {
  AddOperator<VoxelizeKernel<D>>(list);
  AddFeatureOperators<SparseInterpolateKernel, D>(list);
  AddOperator<RotatedNmsKernel<D>>(list);
}

VOXGATE_FAMILY(AddPointOperators);

}  // namespace voxgate
