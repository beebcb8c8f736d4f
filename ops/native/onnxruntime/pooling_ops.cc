// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// SparsePool and SparseGlobalPool.
#include "families.h"
#include "rulebook/pooling.h"

namespace voxgate {
namespace {

using rulebook::Device;
using rulebook::PoolMode;

constexpr Names<PoolMode, 3> kModes = {
    {{"max", PoolMode::kMax}, {"avg", PoolMode::kAvg}, {"sum", PoolMode::kSum}}};

template <Device D, typename T>
class SparsePoolKernel {
 public:
  static constexpr Device kDevice = D;
  static constexpr const char* kName = "SparsePool";
  static constexpr Port kInputs[] = {MakePort<T>("features", "[N, C]"),
                                     MakePort<int32_t>("neighbors", "[K, M]")};
  static constexpr Port kOutputs[] = {MakePort<T>("features", "[M, C]")};

  explicit SparsePoolKernel(const Attributes& attributes)
      : mode_(attributes.Choice("mode", kModes)) {}

  void Compute(Call<D>& call) const {
    const Tensor<T> features = call.template Input<T>(0);
    const Tensor<int32_t> neighbors = call.template Input<int32_t>(1);
    T* out = call.template Output<T>(0, {neighbors.shape[1], features.shape[1]});
    rulebook::SparsePool<D, T>(call.context(), features.data, features.shape[0], features.shape[1],
                               neighbors.data, neighbors.shape[0], neighbors.shape[1], mode_, out);
  }

  static void InferShapes(ShapeInference& shapes) {
    shapes.Set(0, {shapes.InputDim(1, 1), shapes.InputDim(0, 1)});
  }

 private:
  PoolMode mode_;
};

template <Device D, typename T>
class SparseGlobalPoolKernel {
 public:
  static constexpr Device kDevice = D;
  static constexpr const char* kName = "SparseGlobalPool";
  static constexpr Port kInputs[] = {MakePort<T>("features", "[N, C]"),
                                     MakePort<int32_t>("coords", "[N, 1 + D]"), BatchSizePort()};
  static constexpr Port kOutputs[] = {MakePort<T>("pooled", "[B, C]")};

  explicit SparseGlobalPoolKernel(const Attributes& attributes)
      : mode_(attributes.Choice("mode", kModes)) {}

  void Compute(Call<D>& call) const {
    const Tensor<T> features = call.template Input<T>(0);
    const Tensor<int32_t> coords = call.template Input<int32_t>(1);
    const int64_t batch_size = call.BatchSize(2);
    ExpectSize(features, 0, "rows", coords.shape[0], coords);
    const rulebook::CoordsView sites = AsCoords(coords);
    T* out = call.template Output<T>(0, {batch_size, features.shape[1]});
    rulebook::SparseGlobalPool<D, T>(call.context(), features.data, features.shape[1], sites,
                                     batch_size, mode_, out);
  }

  static void InferShapes(ShapeInference& shapes) {
    shapes.Set(0, {shapes.NewSymbol(), shapes.InputDim(0, 1)});
  }

 private:
  PoolMode mode_;
};

}  // namespace

template <Device D>
void AddPoolingOperators(OperatorList& list) {
  AddFeatureOperators<SparsePoolKernel, D>(list);
  AddFeatureOperators<SparseGlobalPoolKernel, D>(list);
}

VOXGATE_FAMILY(AddPoolingOperators);

}  // namespace voxgate
