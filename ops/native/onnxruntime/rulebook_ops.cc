// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// SortSites and the operators that build rulebooks.
#include "families.h"
#include "rulebook/coords.h"
#include "rulebook/rulebook.h"

namespace voxgate {
namespace {

using rulebook::Device;

// The kernel volume as an axis of an inferred shape.
ShapeInference::Dim KernelVolumeDim(ShapeInference& shapes) {
  int64_t volume = 1;
  for (const int64_t size : shapes.Ints("kernel_size")) {
    if (size < 1 || size > rulebook::kMaxKernelVolume / volume) return shapes.NewSymbol();
    volume *= size;
  }
  return volume;
}

template <Device D>
class SortSitesKernel {
 public:
  static constexpr Device kDevice = D;
  static constexpr const char* kName = "SortSites";
  static constexpr Port kInputs[] = {MakePort<int32_t>("coords", "[N, 1 + D]")};
  static constexpr Port kOutputs[] = {MakePort<int32_t>("coords", "[M, 1 + D]"),
                                      MakePort<int64_t>("order", "[M]"),
                                      MakePort<int64_t>("rank", "[N]")};

  explicit SortSitesKernel(const Attributes& attributes)
      : shape_(attributes.SpatialShape()),
        duplicates_(attributes.Choice("duplicates", kDuplicates, {rulebook::Duplicates::kError})) {}

  void Compute(Call<D>& call) const {
    const rulebook::CoordsView coords = AsCoords(call.template Input<int32_t>(0), shape_.axes);
    auto* rank = call.template Output<int64_t>(2, {coords.rows});
    rulebook::SortSites<D>(call.context(), coords, shape_, duplicates_, rank, [&](int64_t sites) {
      return rulebook::SortedSites{call.template Output<int32_t>(0, {sites, coords.columns()}),
                                   call.template Output<int64_t>(1, {sites})};
    });
  }

  static void InferShapes(ShapeInference& shapes) {
    const ShapeInference::Dim sites = shapes.NewSymbol();
    shapes.Set(0, {sites, shapes.InputDim(0, 1)});
    shapes.Set(1, {sites});
    shapes.Set(2, {shapes.InputDim(0, 0)});
  }

 private:
  static constexpr Names<rulebook::Duplicates, 2> kDuplicates = {
      {{"error", rulebook::Duplicates::kError}, {"first", rulebook::Duplicates::kFirst}}};

  rulebook::SpatialShape shape_;
  rulebook::Duplicates duplicates_;
};

template <Device D>
class SubmanifoldRulebookKernel {
 public:
  static constexpr Device kDevice = D;
  static constexpr const char* kName = "SubmanifoldRulebook";
  static constexpr Port kInputs[] = {MakePort<int32_t>("coords", "[N, 1 + D]")};
  static constexpr Port kOutputs[] = {MakePort<int32_t>("neighbors", "[K, N]")};

  explicit SubmanifoldRulebookKernel(const Attributes& attributes)
      : shape_(attributes.SpatialShape()),
        kernel_size_(attributes.PerAxis("kernel_size", shape_.axes, std::nullopt)),
        dilation_(attributes.PerAxis("dilation", shape_.axes, 1)),
        kernel_volume_(rulebook::SubmanifoldGeometry(kernel_size_, dilation_).KernelVolume()) {}

  void Compute(Call<D>& call) const {
    const rulebook::CoordsView coords = AsCoords(call.template Input<int32_t>(0), shape_.axes);
    auto* neighbors = call.template Output<int32_t>(0, {kernel_volume_, coords.rows},
                                                    rulebook::kMaxRulebookCells);
    rulebook::SubmanifoldRulebook<D>(call.context(), coords, shape_, kernel_size_, dilation_,
                                     neighbors);
  }

  static void InferShapes(ShapeInference& shapes) {
    shapes.Set(0, {KernelVolumeDim(shapes), shapes.InputDim(0, 0)});
  }

 private:
  rulebook::SpatialShape shape_;
  rulebook::PerAxis kernel_size_;
  rulebook::PerAxis dilation_;
  int64_t kernel_volume_;
};

rulebook::ConvGeometry ReadGeometry(const Attributes& attributes,
                                    const rulebook::SpatialShape& shape) {
  rulebook::ConvGeometry geometry;
  geometry.kernel_size = attributes.PerAxis("kernel_size", shape.axes, std::nullopt);
  geometry.stride = attributes.PerAxis("stride", shape.axes, 1);
  geometry.padding = attributes.PerAxis("padding", shape.axes, 0);
  geometry.dilation = attributes.PerAxis("dilation", shape.axes, 1);
  geometry.output_padding = attributes.PerAxis("output_padding", shape.axes, 0);
  geometry.transposed = attributes.Flag("transposed", false);
  geometry.Check();
  geometry.OutputShape(shape);  // throws for a geometry this input shape cannot have
  return geometry;
}

template <Device D>
class SparseRulebookKernel {
 public:
  static constexpr Device kDevice = D;
  static constexpr const char* kName = "SparseRulebook";
  static constexpr Port kInputs[] = {MakePort<int32_t>("coords", "[N, 1 + D]"),
                                     MakePort<int32_t>("out_coords", "[M, 1 + D]").Optional()};
  static constexpr Port kOutputs[] = {MakePort<int32_t>("out_coords", "[M, 1 + D]"),
                                      MakePort<int32_t>("neighbors", "[K, M]")};

  explicit SparseRulebookKernel(const Attributes& attributes)
      : shape_(attributes.SpatialShape()),
        geometry_(ReadGeometry(attributes, shape_)),
        kernel_volume_(geometry_.KernelVolume()) {}

  void Compute(Call<D>& call) const {
    const rulebook::CoordsView coords = AsCoords(call.template Input<int32_t>(0), shape_.axes);
    const Tensor<int32_t> given = call.template Input<int32_t>(1);
    if (!given.present) {
      rulebook::SparseRulebook<D>(call.context(), coords, shape_, geometry_,
                                  [&](int64_t sites) { return Outputs(call, sites); });
      return;
    }
    const rulebook::CoordsView sites = AsCoords(given, shape_.axes);
    const rulebook::GeneratedSites out = Outputs(call, sites.rows);
    rulebook::SparseRulebookAt<D>(call.context(), coords, shape_, geometry_, sites, out.neighbors);
    call.context().Copy(out.coords, sites.data,
                        static_cast<size_t>(sites.rows * sites.columns()) * sizeof(*sites.data));
  }

  static void InferShapes(ShapeInference& shapes) {
    const ShapeInference::Dim sites = shapes.InputDim(1, 0);
    shapes.Set(0, {sites, shapes.InputDim(0, 1)});
    shapes.Set(1, {KernelVolumeDim(shapes), sites});
  }

 private:
  rulebook::GeneratedSites Outputs(Call<D>& call, int64_t sites) const {
    return {call.template Output<int32_t>(0, {sites, shape_.axes + 1}),
            call.template Output<int32_t>(1, {kernel_volume_, sites}, rulebook::kMaxRulebookCells)};
  }

  rulebook::SpatialShape shape_;
  rulebook::ConvGeometry geometry_;
  int64_t kernel_volume_;
};

template <Device D>
class InverseRulebookKernel {
 public:
  static constexpr Device kDevice = D;
  static constexpr const char* kName = "InverseRulebook";
  static constexpr Port kInputs[] = {MakePort<int32_t>("neighbors", "[K, M]"),
                                     MakePort<int32_t>("coords", "[N, 1 + D]")};
  static constexpr Port kOutputs[] = {MakePort<int32_t>("neighbors", "[K, N]")};

  explicit InverseRulebookKernel(const Attributes&) {}

  void Compute(Call<D>& call) const {
    const Tensor<int32_t> neighbors = call.template Input<int32_t>(0);
    const int64_t inputs = AsCoords(call.template Input<int32_t>(1)).rows;
    auto* inverse =
        call.template Output<int32_t>(0, {neighbors.shape[0], inputs}, rulebook::kMaxRulebookCells);
    rulebook::InverseRulebook<D>(call.context(), neighbors.data, neighbors.shape[0],
                                 neighbors.shape[1], inputs, inverse);
  }

  static void InferShapes(ShapeInference& shapes) {
    shapes.Set(0, {shapes.InputDim(0, 0), shapes.InputDim(1, 0)});
  }
};

}  // namespace

template <Device D>
void AddRulebookOperators(OperatorList& list) {
  AddOperator<SortSitesKernel<D>>(list);
  AddOperator<SubmanifoldRulebookKernel<D>>(list);
  AddOperator<SparseRulebookKernel<D>>(list);
  AddOperator<InverseRulebookKernel<D>>(list);
}

VOXGATE_FAMILY(AddRulebookOperators);

}  // namespace voxgate
