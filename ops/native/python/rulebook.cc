// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#include "rulebook/rulebook.h"

#include <nanobind/stl/optional.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <optional>

#include "arrays.h"
#include "bindings.h"
#include "threads.h"

namespace voxgate {
namespace {

using rulebook::ConvGeometry;
using rulebook::CoordsView;
using rulebook::Device;

// Refuses a rulebook over the library's limit before its memory is asked for.
void CheckCells(int64_t kernel_volume, int64_t rows) {
  rulebook::CheckedProduct(kernel_volume, rows, rulebook::kMaxRulebookCells, "rulebook cells");
}

nb::ndarray<nb::numpy, int32_t> SubmanifoldRulebook(const Array<int32_t>& coords,
                                                    const std::vector<int64_t>& spatial_shape,
                                                    const std::vector<int64_t>& kernel_size,
                                                    const std::vector<int64_t>& dilation,
                                                    int threads) {
  const rulebook::SpatialShape shape = ToPerAxis(spatial_shape, "spatial_shape");
  const CoordsView sites = ToCoords(coords, shape.axes);
  const rulebook::PerAxis kernel = ToPerAxis(kernel_size, shape.axes, "kernel_size");
  const rulebook::PerAxis step = ToPerAxis(dilation, shape.axes, "dilation");
  const int64_t volume = rulebook::SubmanifoldGeometry(kernel, step).KernelVolume();
  CheckCells(volume, sites.rows);
  Output<int32_t> neighbors({volume, sites.rows});
  RunReleased(threads, [&](rulebook::CpuContext& context) {
    rulebook::SubmanifoldRulebook<Device::kCpu>(context, sites, shape, kernel, step,
                                                neighbors.data());
  });
  return neighbors.Release();
}

nb::tuple SparseRulebook(const Array<int32_t>& coords, const std::vector<int64_t>& spatial_shape,
                         const std::vector<int64_t>& kernel_size,
                         const std::vector<int64_t>& stride, const std::vector<int64_t>& padding,
                         const std::vector<int64_t>& dilation, bool transposed,
                         const std::optional<std::vector<int64_t>>& output_padding,
                         const std::optional<Array<int32_t>>& out_coords, int threads) {
  const rulebook::SpatialShape shape = ToPerAxis(spatial_shape, "spatial_shape");
  const int axes = shape.axes;
  const CoordsView sites = ToCoords(coords, axes);
  ConvGeometry geometry;
  geometry.kernel_size = ToPerAxis(kernel_size, axes, "kernel_size");
  geometry.stride = ToPerAxis(stride, axes, "stride");
  geometry.padding = ToPerAxis(padding, axes, "padding");
  geometry.dilation = ToPerAxis(dilation, axes, "dilation");
  geometry.output_padding = output_padding ? ToPerAxis(*output_padding, axes, "output_padding")
                                           : rulebook::PerAxis{axes, {}};
  geometry.transposed = transposed;
  geometry.Check();
  const int64_t volume = geometry.KernelVolume();
  Output<int32_t> neighbors;
  if (out_coords) {
    const CoordsView outputs = ToCoords(*out_coords, axes, "out_coords");
    CheckCells(volume, outputs.rows);
    neighbors = Output<int32_t>({volume, outputs.rows});
    RunReleased(threads, [&](rulebook::CpuContext& context) {
      rulebook::SparseRulebookAt<Device::kCpu>(context, sites, shape, geometry, outputs,
                                               neighbors.data());
    });
    Output<int32_t> same({outputs.rows, outputs.columns()});
    std::copy_n(outputs.data, outputs.rows * outputs.columns(), same.data());
    return nb::make_tuple(same.Release(), neighbors.Release());
  }
  Output<int32_t> generated;
  RunReleased(threads, [&](rulebook::CpuContext& context) {
    rulebook::SparseRulebook<Device::kCpu>(context, sites, shape, geometry, [&](int64_t rows) {
      generated = Output<int32_t>({rows, sites.columns()});
      neighbors = Output<int32_t>({volume, rows});
      return rulebook::GeneratedSites{generated.data(), neighbors.data()};
    });
  });
  return nb::make_tuple(generated.Release(), neighbors.Release());
}

nb::ndarray<nb::numpy, int32_t> InverseRulebook(const Array<int32_t>& neighbors, int64_t num_inputs,
                                                int threads) {
  Expect(neighbors, "neighbors", {kAny, kAny});
  const int64_t volume = Size(neighbors, 0);
  if (num_inputs < 0) rulebook::ThrowInvalid("num_inputs ", num_inputs, " must not be negative");
  rulebook::CheckedProduct(1, num_inputs, rulebook::kMaxSites, "num_inputs");
  CheckCells(volume, num_inputs);
  Output<int32_t> inverse({volume, num_inputs});
  RunReleased(threads, [&](rulebook::CpuContext& context) {
    rulebook::InverseRulebook<Device::kCpu>(context, neighbors.data(), volume, Size(neighbors, 1),
                                            num_inputs, inverse.data());
  });
  return inverse.Release();
}

}  // namespace

void BindRulebook(nb::module_& module) {
  module.def("submanifold_rulebook", &SubmanifoldRulebook, nb::arg("coords").noconvert(),
             nb::arg("spatial_shape"), nb::arg("kernel_size"), nb::arg("dilation"), nb::kw_only(),
             nb::arg("threads") = 0, "neighbors [K, N] of a submanifold convolution.");
  module.def(
      "sparse_rulebook", &SparseRulebook, nb::arg("coords").noconvert(), nb::arg("spatial_shape"),
      nb::arg("kernel_size"), nb::arg("stride"), nb::arg("padding"), nb::arg("dilation"),
      nb::arg("transposed") = false, nb::arg("output_padding") = nb::none(),
      nb::arg("out_coords").noconvert().none() = nb::none(), nb::kw_only(), nb::arg("threads") = 0,
      "(out_coords [M, 1+D], neighbors [K, M]) of a regular or transposed convolution.");
  module.def("inverse_rulebook", &InverseRulebook, nb::arg("neighbors").noconvert(),
             nb::arg("num_inputs"), nb::kw_only(), nb::arg("threads") = 0,
             "neighbors [K, num_inputs] with the roles of inputs and outputs swapped.");
}

}  // namespace voxgate
