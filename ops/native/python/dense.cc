// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#include "rulebook/dense.h"

#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "arrays.h"
#include "bindings.h"
#include "rulebook/union.h"
#include "threads.h"

namespace voxgate {
namespace {

using rulebook::CoordsView;
using rulebook::Device;
using rulebook::UnionMode;

constexpr std::array<std::pair<std::string_view, UnionMode>, 2> kUnionModes{{
    {"sum", UnionMode::kSum},
    {"concat", UnionMode::kConcat},
}};

nb::ndarray<nb::numpy, float> SparseToDense(const Array<int32_t>& coords,
                                            const Array<float>& features, int64_t batch_size,
                                            const std::vector<int64_t>& spatial_shape,
                                            int threads) {
  const rulebook::SpatialShape shape = ToPerAxis(spatial_shape, "spatial_shape");
  const CoordsView sites = ToCoords(coords, shape.axes);
  Expect(features, "features", {sites.rows, kAny});
  const int64_t channels = Size(features, 1);
  rulebook::DenseElements(batch_size, channels, shape);  // checked before memory is asked for
  std::vector<int64_t> sizes{batch_size, channels};
  sizes.insert(sizes.end(), spatial_shape.begin(), spatial_shape.end());
  Output<float> out(sizes);
  RunReleased(threads, [&](rulebook::CpuContext& context) {
    rulebook::SparseToDense<Device::kCpu, float>(context, sites, features.data(), channels,
                                                 batch_size, shape, out.data());
  });
  return out.Release();
}

nb::tuple DenseToSparse(const Array<float>& dense, float threshold, int threads) {
  if (dense.ndim() < 3 || dense.ndim() > static_cast<size_t>(rulebook::kMaxAxes) + 2) {
    rulebook::ThrowInvalid("dense: expected shape [B, C, *spatial_shape] with 1 to ",
                           rulebook::kMaxAxes, " axes, got ", ShapeText(dense));
  }
  rulebook::SpatialShape shape;
  shape.axes = static_cast<int>(dense.ndim()) - 2;
  for (int axis = 0; axis < shape.axes; ++axis) {
    shape[axis] = Size(dense, static_cast<size_t>(axis) + 2);
  }
  const int64_t channels = Size(dense, 1);
  Output<int32_t> coords;
  Output<float> features;
  RunReleased(threads, [&](rulebook::CpuContext& context) {
    rulebook::DenseToSparse<Device::kCpu, float>(
        context, dense.data(), Size(dense, 0), channels, shape, threshold, [&](int64_t rows) {
          coords = Output<int32_t>({rows, shape.axes + 1});
          features = Output<float>({rows, channels});
          return rulebook::DenseSites<float>{coords.data(), features.data()};
        });
  });
  return nb::make_tuple(coords.Release(), features.Release());
}

nb::tuple SparseUnion(const Array<int32_t>& coords_a, const Array<float>& features_a,
                      const Array<int32_t>& coords_b, const Array<float>& features_b,
                      const std::string& mode, int threads) {
  const CoordsView a = ToCoords(coords_a, -1, "coords_a");
  const CoordsView b = ToCoords(coords_b, a.axes, "coords_b");
  Expect(features_a, "features_a", {a.rows, kAny});
  Expect(features_b, "features_b", {b.rows, kAny});
  const UnionMode union_mode = Choose(mode, "mode", kUnionModes);
  const int64_t channels_a = Size(features_a, 1);
  const int64_t channels_b = Size(features_b, 1);
  const int64_t channels = union_mode == UnionMode::kSum ? channels_a : channels_a + channels_b;
  Output<int32_t> coords;
  Output<float> features;
  RunReleased(threads, [&](rulebook::CpuContext& context) {
    rulebook::SparseUnion<Device::kCpu, float>(
        context, a, features_a.data(), channels_a, b, features_b.data(), channels_b, union_mode,
        [&](int64_t rows) {
          coords = Output<int32_t>({rows, a.columns()});
          features = Output<float>({rows, channels});
          return rulebook::UnionSites<float>{coords.data(), features.data()};
        });
  });
  return nb::make_tuple(coords.Release(), features.Release());
}

}  // namespace

void BindDense(nb::module_& module) {
  module.def("sparse_to_dense", &SparseToDense, nb::arg("coords").noconvert(),
             nb::arg("features").noconvert(), nb::arg("batch_size"), nb::arg("spatial_shape"),
             nb::kw_only(), nb::arg("threads") = 0,
             "[batch_size, C, *spatial_shape], 0 where no site is.");
  module.def("dense_to_sparse", &DenseToSparse, nb::arg("dense").noconvert(),
             nb::arg("threshold") = 0.0F, nb::kw_only(), nb::arg("threads") = 0,
             "(coords, features) of the cells with any |value| > threshold.");
  module.def("sparse_union", &SparseUnion, nb::arg("coords_a").noconvert(),
             nb::arg("features_a").noconvert(), nb::arg("coords_b").noconvert(),
             nb::arg("features_b").noconvert(), nb::arg("mode"), nb::kw_only(),
             nb::arg("threads") = 0, "(coords, features) of the sites of a or b; sum or concat.");
}

}  // namespace voxgate
