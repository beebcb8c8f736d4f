// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#include "rulebook/interpolate.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "columns.h"
#include "coords_text.h"
#include "parallel.h"
#include "points.h"
#include "site_index.h"
#include "vector_ops.h"

namespace rulebook {
namespace {

using cpu::PointsView;

// Cells farther from the grid's origin are no legal site and might not fit an int32.
constexpr float kFarthestCell = 1073741824.0F;
constexpr int64_t kPointsPerBlock = 1024;

struct Sampler {
  const cpu::SiteIndex& index;
  const float* features;
  int64_t channels;
  cpu::GridAxes grid;
  InterpolateMode mode;
  InterpolateAnchor anchor;
  bool normalize;
};

// Neighbouring points ask for neighbouring sites: a search starts where the last one for the same
// corner ended. One hint serves the two corners along the last axis, which are adjacent rows.
template <size_t kAxes>
using Hints = std::array<int64_t, size_t{1} << (kAxes - 1)>;

template <size_t kAxes>
int64_t FindCell(const cpu::SiteIndex& index, const int32_t* row, int64_t* hint) {
  uint64_t key = 0;
  if (!cpu::PackSite<kAxes + 1>(index.box(), row, &key)) return -1;
  return index.Find(key, hint);
}

// The cell each axis' position falls into. False when one is not finite or far outside.
template <size_t kAxes>
bool FloorCell(const std::array<float, kAxes>& position, std::array<float, kAxes>& cell) {
  bool near = true;
  for (size_t axis = 0; axis < kAxes; ++axis) {
    cell[axis] = std::floor(position[axis]);
    near &= std::fabs(cell[axis]) < kFarthestCell;
  }
  return near;
}

template <size_t kAxes>
void SampleNearest(const Sampler& sampler, std::array<float, kAxes> position, int32_t batch,
                   Hints<kAxes>& hints, float* out) {
  if (sampler.anchor == InterpolateAnchor::kCorner) {
    for (float& p : position) p += 0.5F;
  }
  std::array<float, kAxes> cell;
  if (!FloorCell<kAxes>(position, cell)) return;
  std::array<int32_t, 1 + kAxes> site{batch};
  for (size_t axis = 0; axis < kAxes; ++axis) site[1 + axis] = static_cast<int32_t>(cell[axis]);
  const int64_t row = FindCell<kAxes>(sampler.index, site.data(), &hints[0]);
  if (row >= 0) std::copy_n(sampler.features + row * sampler.channels, sampler.channels, out);
}

template <size_t kAxes>
void SampleLinear(const Sampler& sampler, std::array<float, kAxes> position, int32_t batch,
                  Hints<kAxes>& hints, float* out) {
  if (sampler.anchor == InterpolateAnchor::kCenter) {
    for (float& p : position) p -= 0.5F;
  }
  std::array<float, kAxes> cell;
  if (!FloorCell<kAxes>(position, cell)) return;
  float total = 0.0F;
  for (size_t corner = 0; corner < (size_t{1} << kAxes); ++corner) {
    float weight = 1.0F;
    std::array<int32_t, 1 + kAxes> site{batch};
    for (size_t axis = 0; axis < kAxes; ++axis) {
      const bool upper = ((corner >> (kAxes - 1 - axis)) & 1U) != 0;
      const float fraction = position[axis] - cell[axis];
      weight *= upper ? fraction : 1.0F - fraction;
      site[1 + axis] = static_cast<int32_t>(cell[axis]) + (upper ? 1 : 0);
    }
    if (weight == 0.0F) continue;  // not around the point, whatever value it holds
    const int64_t row = FindCell<kAxes>(sampler.index, site.data(), &hints[corner / 2]);
    if (row < 0) continue;
    cpu::ScaledAddInto(weight, sampler.features + row * sampler.channels, sampler.channels, out);
    total += weight;
  }
  if (sampler.normalize && total > 0.0F) cpu::Divide(total, sampler.channels, out);
}

template <size_t kAxes>
void SampleBlock(const Sampler& sampler, const PointsView& points, int64_t begin, int64_t end,
                 float* out) {
  Hints<kAxes> hints{};
  for (int64_t p = begin; p < end; ++p) {
    cpu::CheckPointBatch(points, p);
    float* row = out + p * sampler.channels;
    std::fill_n(row, sampler.channels, 0.0F);
    std::array<float, kAxes> position;
    for (size_t axis = 0; axis < kAxes; ++axis) {
      position[axis] = sampler.grid.Position<kAxes>(points.row(p), axis);
    }
    if (sampler.mode == InterpolateMode::kNearest) {
      SampleNearest<kAxes>(sampler, position, points.batch[p], hints, row);
    } else {
      SampleLinear<kAxes>(sampler, position, points.batch[p], hints, row);
    }
  }
}

}  // namespace

template <>
void SparseInterpolate<Device::kCpu, float>(CpuContext& context, CoordsView coords,
                                            const float* features, int64_t channels,
                                            const float* points, int64_t num_points,
                                            int64_t num_fields, const int32_t* point_batch,
                                            const InterpolateOptions& options, float* out) {
  const SpatialShape shape = options.grid.Shape();
  cpu::CheckCoordsView("coords", coords);
  if (coords.axes != shape.axes) {
    ThrowInvalid("coords: ", coords.axes, " spatial axes, but voxel_size has ", shape.axes);
  }
  const PointsView view{points, num_points, num_fields, point_batch};
  cpu::CheckPoints(view, shape.axes);
  const cpu::SiteIndex index(context, coords);
  const Sampler sampler{index,        features,       channels,         cpu::GridAxes(options.grid),
                        options.mode, options.anchor, options.normalize};
  WithColumns(1 + shape.axes, [&](auto columns) {
    constexpr size_t kAxes = static_cast<size_t>(columns) - 1;
    cpu::ForBlocks(context, num_points, kPointsPerBlock, [&](int64_t, int64_t begin, int64_t end) {
      SampleBlock<kAxes>(sampler, view, begin, end, out);
    });
  });
}

}  // namespace rulebook
