// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "arrays.h"
#include "bindings.h"
#include "rulebook/interpolate.h"
#include "rulebook/nms.h"
#include "rulebook/voxelize.h"
#include "threads.h"

namespace voxgate {
namespace {

using rulebook::Device;
using rulebook::InterpolateAnchor;
using rulebook::InterpolateMode;
using rulebook::VoxelReduce;

constexpr std::array<std::pair<std::string_view, VoxelReduce>, 4> kReduces{{
    {"mean", VoxelReduce::kMean},
    {"max", VoxelReduce::kMax},
    {"sum", VoxelReduce::kSum},
    {"first", VoxelReduce::kFirst},
}};
constexpr std::array<std::pair<std::string_view, InterpolateMode>, 2> kModes{{
    {"nearest", InterpolateMode::kNearest},
    {"trilinear", InterpolateMode::kTrilinear},
}};
constexpr std::array<std::pair<std::string_view, InterpolateAnchor>, 2> kAnchors{{
    {"center", InterpolateAnchor::kCenter},
    {"corner", InterpolateAnchor::kCorner},
}};

// Also checks what needs only shapes: enough columns for the grid's axes, one batch index a point.
rulebook::VoxelGrid ToGrid(const std::vector<float>& point_range,
                           const std::vector<float>& voxel_size, const Array<float>& points,
                           const Array<int32_t>& point_batch) {
  rulebook::VoxelGrid grid{point_range, voxel_size};
  grid.Check();
  Expect(points, "points", {kAny, kAny});
  if (Size(points, 1) < grid.axes()) {
    rulebook::ThrowInvalid("points: expected at least ", grid.axes(), " columns, got ",
                           Size(points, 1));
  }
  Expect(point_batch, "point_batch", {Size(points, 0)});
  return grid;
}

nb::tuple Voxelize(const Array<float>& points, const Array<int32_t>& point_batch,
                   const std::vector<float>& point_range, const std::vector<float>& voxel_size,
                   const std::string& reduce, int64_t max_points, int64_t max_voxels, int threads) {
  rulebook::VoxelizeOptions options;
  options.grid = ToGrid(point_range, voxel_size, points, point_batch);
  options.reduce = Choose(reduce, "reduce", kReduces);
  options.max_points = max_points;
  options.max_voxels = max_voxels;
  const int64_t num_points = Size(points, 0);
  const int64_t num_fields = Size(points, 1);
  Output<int32_t> coords;
  Output<float> features;
  Output<int32_t> point_voxel({num_points});
  RunReleased(threads, [&](rulebook::CpuContext& context) {
    rulebook::Voxelize<Device::kCpu>(context, points.data(), num_points, num_fields,
                                     point_batch.data(), options, point_voxel.data(),
                                     [&](int64_t rows) {
                                       coords = Output<int32_t>({rows, options.grid.axes() + 1});
                                       features = Output<float>({rows, num_fields});
                                       return rulebook::Voxels{coords.data(), features.data()};
                                     });
  });
  return nb::make_tuple(coords.Release(), features.Release(), point_voxel.Release());
}

nb::ndarray<nb::numpy, float> SparseInterpolate(
    const Array<float>& features, const Array<int32_t>& coords, const Array<float>& points,
    const Array<int32_t>& point_batch, const std::vector<float>& point_range,
    const std::vector<float>& voxel_size, const std::string& mode, const std::string& anchor,
    bool normalize, int threads) {
  rulebook::InterpolateOptions options;
  options.grid = ToGrid(point_range, voxel_size, points, point_batch);
  options.mode = Choose(mode, "mode", kModes);
  options.anchor = Choose(anchor, "anchor", kAnchors);
  options.normalize = normalize;
  const rulebook::CoordsView sites = ToCoords(coords, options.grid.axes());
  Expect(features, "features", {sites.rows, kAny});
  const int64_t channels = Size(features, 1);
  Output<float> out({Size(points, 0), channels});
  RunReleased(threads, [&](rulebook::CpuContext& context) {
    rulebook::SparseInterpolate<Device::kCpu, float>(
        context, sites, features.data(), channels, points.data(), Size(points, 0), Size(points, 1),
        point_batch.data(), options, out.data());
  });
  return out.Release();
}

nb::ndarray<nb::numpy, int64_t> RotatedNms(const Array<float>& boxes, const Array<float>& scores,
                                           const Array<int32_t>& frame, float iou_threshold,
                                           float score_threshold, int64_t max_per_frame,
                                           int threads) {
  Expect(boxes, "boxes", {kAny, 7});
  const int64_t rows = Size(boxes, 0);
  Expect(scores, "scores", {rows});
  Expect(frame, "frame", {rows});
  const rulebook::NmsOptions options{iou_threshold, score_threshold, max_per_frame};
  Output<int64_t> kept;
  RunReleased(threads, [&](rulebook::CpuContext& context) {
    rulebook::RotatedNms<Device::kCpu>(context, boxes.data(), scores.data(), frame.data(), rows,
                                       options, [&](int64_t count) {
                                         kept = Output<int64_t>({count});
                                         return kept.data();
                                       });
  });
  return kept.Release();
}

}  // namespace

void BindPoints(nb::module_& module) {
  module.def("voxelize", &Voxelize, nb::arg("points").noconvert(),
             nb::arg("point_batch").noconvert(), nb::arg("point_range"), nb::arg("voxel_size"),
             nb::arg("reduce") = "mean", nb::arg("max_points") = 0, nb::arg("max_voxels") = 0,
             nb::kw_only(), nb::arg("threads") = 0, "(coords, features, point_voxel).");
  module.def("sparse_interpolate", &SparseInterpolate, nb::arg("features").noconvert(),
             nb::arg("coords").noconvert(), nb::arg("points").noconvert(),
             nb::arg("point_batch").noconvert(), nb::arg("point_range"), nb::arg("voxel_size"),
             nb::arg("mode") = "trilinear", nb::arg("anchor") = "center",
             nb::arg("normalize") = true, nb::kw_only(), nb::arg("threads") = 0,
             "Features of canonical sites sampled at points: [P, C].");
  module.def("rotated_nms", &RotatedNms, nb::arg("boxes").noconvert(),
             nb::arg("scores").noconvert(), nb::arg("frame").noconvert(), nb::arg("iou_threshold"),
             nb::arg("score_threshold") = 0.0F, nb::arg("max_per_frame") = 0, nb::kw_only(),
             nb::arg("threads") = 0,
             "Indices of the kept boxes, by (frame, score descending, index).");
}

}  // namespace voxgate
