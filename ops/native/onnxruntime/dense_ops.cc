// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// SparseToDense, DenseToSparse and SparseUnion.
#include "families.h"
#include "rulebook/dense.h"
#include "rulebook/union.h"

namespace voxgate {
namespace {

using rulebook::Device;
using rulebook::UnionMode;

template <Device D, typename T>
class SparseToDenseKernel {
 public:
  static constexpr Device kDevice = D;
  static constexpr const char* kName = "SparseToDense";
  static constexpr Port kInputs[] = {MakePort<int32_t>("coords", "[N, 1 + D]"),
                                     MakePort<T>("features", "[N, C]"), BatchSizePort()};
  static constexpr Port kOutputs[] = {MakePort<T>("dense", "[B, C, *spatial_shape]")};

  explicit SparseToDenseKernel(const Attributes& attributes) : shape_(attributes.SpatialShape()) {}

  void Compute(Call<D>& call) const {
    const Tensor<int32_t> coords = call.template Input<int32_t>(0);
    const Tensor<T> features = call.template Input<T>(1);
    const int64_t batch_size = call.BatchSize(2);
    const int64_t channels = features.shape[1];
    ExpectSize(features, 0, "rows", coords.shape[0], coords);
    const rulebook::CoordsView sites = AsCoords(coords, shape_.axes);
    rulebook::DenseElements(batch_size, channels, shape_);  // throws when it would be too many
    std::vector<int64_t> dims = {batch_size, channels};
    for (int axis = 0; axis < shape_.axes; ++axis) dims.push_back(shape_[axis]);
    T* dense = call.template Output<T>(0, dims);
    rulebook::SparseToDense<D, T>(call.context(), sites, features.data, channels, batch_size,
                                  shape_, dense);
  }

  static void InferShapes(ShapeInference& shapes) {
    std::vector<ShapeInference::Dim> dims = {shapes.NewSymbol(), shapes.InputDim(1, 1)};
    for (const int64_t size : shapes.Ints("spatial_shape")) dims.emplace_back(size);
    shapes.Set(0, dims);
  }

 private:
  rulebook::SpatialShape shape_;
};

template <Device D, typename T>
class DenseToSparseKernel {
 public:
  static constexpr Device kDevice = D;
  static constexpr const char* kName = "DenseToSparse";
  static constexpr Port kInputs[] = {
      MakePort<T>("dense", "[B, C, *spatial_shape]").Ranks(3, 2 + rulebook::kMaxAxes)};
  static constexpr Port kOutputs[] = {MakePort<int32_t>("coords", "[M, 1 + D]"),
                                      MakePort<T>("features", "[M, C]")};

  explicit DenseToSparseKernel(const Attributes& attributes)
      : threshold_(attributes.Float("threshold", 0.0F)) {}

  void Compute(Call<D>& call) const {
    const Tensor<T> dense = call.template Input<T>(0);
    rulebook::SpatialShape shape;
    for (int axis = 2; axis < dense.shape.rank; ++axis) shape[shape.axes++] = dense.shape[axis];
    const int64_t batch_size = dense.shape[0];
    const int64_t channels = dense.shape[1];
    CheckBatchSize("axis 0 of dense", batch_size);
    rulebook::CheckSpatialShape(shape);
    rulebook::DenseToSparse<D, T>(
        call.context(), dense.data, batch_size, channels, shape, threshold_, [&](int64_t sites) {
          return rulebook::DenseSites<T>{call.template Output<int32_t>(0, {sites, shape.axes + 1}),
                                         call.template Output<T>(1, {sites, channels})};
        });
  }

  static void InferShapes(ShapeInference& shapes) {
    const ShapeInference::Dim sites = shapes.NewSymbol();
    const size_t rank = shapes.InputRank(0);
    shapes.Set(0, {sites, rank > 2 ? ShapeInference::Dim(static_cast<int64_t>(rank) - 1)
                                   : shapes.NewSymbol()});
    shapes.Set(1, {sites, shapes.InputDim(0, 1)});
  }

 private:
  float threshold_;
};

template <Device D, typename T>
class SparseUnionKernel {
 public:
  static constexpr Device kDevice = D;
  static constexpr const char* kName = "SparseUnion";
  static constexpr Port kInputs[] = {
      MakePort<int32_t>("coords_a", "[Na, 1 + D]"), MakePort<T>("features_a", "[Na, Ca]"),
      MakePort<int32_t>("coords_b", "[Nb, 1 + D]"), MakePort<T>("features_b", "[Nb, Cb]")};
  static constexpr Port kOutputs[] = {MakePort<int32_t>("coords", "[M, 1 + D]"),
                                      MakePort<T>("features", "[M, C]")};

  explicit SparseUnionKernel(const Attributes& attributes)
      : mode_(attributes.Choice("mode", kModes)) {}

  void Compute(Call<D>& call) const {
    const Tensor<int32_t> coords_a = call.template Input<int32_t>(0);
    const Tensor<T> features_a = call.template Input<T>(1);
    const Tensor<int32_t> coords_b = call.template Input<int32_t>(2);
    const Tensor<T> features_b = call.template Input<T>(3);
    ExpectSize(features_a, 0, "rows", coords_a.shape[0], coords_a);
    ExpectSize(features_b, 0, "rows", coords_b.shape[0], coords_b);
    ExpectSize(coords_b, 1, "columns", coords_a.shape[1], coords_a);
    const rulebook::CoordsView sites_a = AsCoords(coords_a);
    const rulebook::CoordsView sites_b = AsCoords(coords_b);
    const int64_t channels_a = features_a.shape[1];
    const int64_t channels_b = features_b.shape[1];
    if (mode_ == UnionMode::kSum) ExpectSize(features_b, 1, "channels", channels_a, features_a);
    const int64_t channels = mode_ == UnionMode::kSum ? channels_a : channels_a + channels_b;
    rulebook::SparseUnion<D, T>(call.context(), sites_a, features_a.data, channels_a, sites_b,
                                features_b.data, channels_b, mode_, [&](int64_t sites) {
                                  return rulebook::UnionSites<T>{
                                      call.template Output<int32_t>(0, {sites, coords_a.shape[1]}),
                                      call.template Output<T>(1, {sites, channels})};
                                });
  }

  static void InferShapes(ShapeInference& shapes) {
    const ShapeInference::Dim sites = shapes.NewSymbol();
    const ShapeInference::Dim a = shapes.InputDim(1, 1);
    const ShapeInference::Dim b = shapes.InputDim(3, 1);
    shapes.Set(0, {sites, shapes.InputDim(0, 1)});
    if (shapes.String("mode") == "sum") {
      shapes.Set(1, {sites, a});
    } else if (a.IsInt() && b.IsInt()) {
      shapes.Set(1, {sites, a.AsInt() + b.AsInt()});
    } else {
      shapes.Set(1, {sites, shapes.NewSymbol()});
    }
  }

 private:
  static constexpr Names<UnionMode, 2> kModes = {
      {{"sum", UnionMode::kSum}, {"concat", UnionMode::kConcat}}};

  UnionMode mode_;
};

}  // namespace

template <Device D>
void AddDenseOperators(OperatorList& list) {
  AddFeatureOperators<SparseToDenseKernel, D>(list);
  AddFeatureOperators<DenseToSparseKernel, D>(list);
  AddFeatureOperators<SparseUnionKernel, D>(list);
}

VOXGATE_FAMILY(AddDenseOperators);

}  // namespace voxgate
