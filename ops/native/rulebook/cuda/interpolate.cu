// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// SparseInterpolate without a word to the host: first the rows of the sites around every point,
// then the features of these, mixed in the CPU's order. Sites are searched as they lie, as they may
// be of a larger grid than the points'.
#include "columns.h"
#include "coords_text.h"
#include "element.h"
#include "point_grid.h"
#include "row_lanes.h"
#include "rulebook/interpolate.h"
#include "rulebook/rows.h"
#include "site_search.h"

namespace rulebook {
namespace cuda {
namespace {

// Cells farther from the grid's origin are no legal site and might not fit an int32.
constexpr float kFarthestCell = 1073741824.0F;

struct PointSet {
  const float* data;  // [count, fields]
  int64_t count;
  int64_t fields;
  const int32_t* batch;  // [count]
  PointGrid grid;
  float shift;  // added to positions, so that the cell is the site itself or the lowest corner
};

// Where a point lies, and in which cell. False when an axis is not finite or far outside.
template <int kAxes>
__device__ bool Locate(const PointSet& points, int64_t p, float* position, float* cell) {
  bool near = true;
#pragma unroll
  for (int axis = 0; axis < kAxes; ++axis) {
    position[axis] =
        PointPosition<kAxes>(points.grid, points.data + p * points.fields, axis) + points.shift;
    cell[axis] = floorf(position[axis]);
    near = near && fabsf(cell[axis]) < kFarthestCell;
  }
  return near;
}

// The site at corner `corner` of the point's cell: a bit for each axis, axis 0's the highest, says
// whether it is the cell after the point's.
template <int kAxes>
__device__ void CornerSite(const PointSet& points, int64_t p, const float* cell, int corner,
                           int32_t* site) {
  site[0] = points.batch[p];
#pragma unroll
  for (int axis = 0; axis < kAxes; ++axis) {
    site[1 + axis] = static_cast<int32_t>(cell[axis]) + (corner >> (kAxes - 1 - axis) & 1);
  }
}

// corners[p] = the row of the point's cell, or -1.
template <int kAxes>
__global__ void FindCells(const int32_t* coords, int64_t rows, PointSet points, int32_t* corners) {
  const int64_t p = GlobalThread();
  if (p >= points.count) return;
  float position[kAxes];
  float cell[kAxes];
  int64_t found = -1;
  if (Locate<kAxes>(points, p, position, cell)) {
    int32_t site[1 + kAxes];
    CornerSite<kAxes>(points, p, cell, 0, site);
    const int64_t row = LowerBound<1 + kAxes>(coords, rows, site);
    if (IsSite<1 + kAxes>(coords, rows, row, site)) found = row;
  }
  corners[p] = static_cast<int32_t>(found);
}

// corners[p * 2^kAxes + c] = the row of the point's corner c, or -1. One thread for each two of
// them that differ along the last axis, whose rows are adjacent if both exist.
template <int kAxes>
__global__ void FindCorners(const int32_t* coords, int64_t rows, PointSet points,
                            int32_t* corners) {
  constexpr int kPairs = 1 << (kAxes - 1);
  const int64_t thread = GlobalThread();
  const int64_t p = thread / kPairs;
  if (p >= points.count) return;
  float position[kAxes];
  float cell[kAxes];
  int64_t lower = -1;
  int64_t upper = -1;
  if (Locate<kAxes>(points, p, position, cell)) {
    int32_t site[1 + kAxes];
    CornerSite<kAxes>(points, p, cell, static_cast<int>(thread % kPairs) * 2, site);
    int64_t row = LowerBound<1 + kAxes>(coords, rows, site);
    if (IsSite<1 + kAxes>(coords, rows, row, site)) lower = row++;
    ++site[kAxes];
    if (IsSite<1 + kAxes>(coords, rows, row, site)) upper = row;
  }
  corners[thread * 2] = static_cast<int32_t>(lower);
  corners[thread * 2 + 1] = static_cast<int32_t>(upper);
}

template <typename T, int kAxes>
__global__ void MixCorners(const T* features, int64_t channels, PointSet points,
                           const int32_t* corners, bool normalize, RowLanes lanes, T* out) {
  constexpr int kCorners = 1 << kAxes;
  const int64_t p = LaneRow(lanes);
  if (p >= points.count) return;
  float position[kAxes];
  float cell[kAxes];
  int32_t row[kCorners];
  float weight[kCorners];
  float total = 0.0F;
  const bool near = Locate<kAxes>(points, p, position, cell);
#pragma unroll
  for (int corner = 0; corner < kCorners; ++corner) {
    weight[corner] = 1.0F;
#pragma unroll
    for (int axis = 0; axis < kAxes; ++axis) {
      const float fraction = position[axis] - cell[axis];
      weight[corner] *= (corner >> (kAxes - 1 - axis) & 1) != 0 ? fraction : 1.0F - fraction;
    }
    // Without a weight it is not around the point, whatever value it holds.
    row[corner] = near && weight[corner] != 0.0F ? corners[p * kCorners + corner] : -1;
    if (row[corner] >= 0) total += weight[corner];
  }
  for (int64_t c = LaneFirst(lanes); c < channels; c += LaneStep(lanes)) {
    float sum = 0.0F;
#pragma unroll
    for (int corner = 0; corner < kCorners; ++corner) {
      if (row[corner] < 0) continue;
      sum += weight[corner] * ToFloat(features[int64_t{row[corner]} * channels + c]);
    }
    if (normalize && total > 0.0F) sum /= total;
    out[p * channels + c] = FromFloat<T>(sum);
  }
}

float Shift(InterpolateMode mode, InterpolateAnchor anchor) {
  const bool center = anchor == InterpolateAnchor::kCenter;
  if (mode == InterpolateMode::kNearest) return center ? 0.0F : 0.5F;
  return center ? -0.5F : 0.0F;
}

}  // namespace
}  // namespace cuda

template <Device D, typename T>
void SparseInterpolate(Context<D>& context, CoordsView coords, const T* features, int64_t channels,
                       const float* points, int64_t num_points, int64_t num_fields,
                       const int32_t* point_batch, const InterpolateOptions& options, T* out) {
  const SpatialShape shape = options.grid.Shape();
  cpu::CheckCoordsView("coords", coords);
  if (coords.axes != shape.axes) {
    ThrowInvalid("coords: ", coords.axes, " spatial axes, but voxel_size has ", shape.axes);
  }
  cpu::CheckPoints({points, num_points, num_fields, point_batch}, shape.axes);
  const cuda::PointSet set{points,
                           num_points,
                           num_fields,
                           point_batch,
                           cuda::MakePointGrid(options.grid),
                           cuda::Shift(options.mode, options.anchor)};
  if (options.mode == InterpolateMode::kNearest) {
    const cuda::Scratch<int32_t> rows(context, num_points);
    WithColumns(coords.columns(), [&](auto columns) {
      cuda::Launch(context, cuda::OneThreadEach(num_points), &cuda::FindCells<columns - 1>,
                   coords.data, coords.rows, set, rows.get());
    });
    GatherRows<D, T>(context, features, coords.rows, channels, rows.get(), num_points, T{}, out);
    return;
  }
  const cuda::RowLanes lanes = cuda::LanesFor(channels);
  const cuda::Scratch<int32_t> corners(context, num_points << shape.axes);
  WithColumns(coords.columns(), [&](auto columns) {
    constexpr int kAxes = columns - 1;
    cuda::Launch(context, cuda::OneThreadEach(num_points << (kAxes - 1)), &cuda::FindCorners<kAxes>,
                 coords.data, coords.rows, set, corners.get());
    cuda::Launch(context, cuda::LanesForEach(num_points, lanes),
                 &cuda::MixCorners<cuda::Native<T>, kAxes>, cuda::AsNative(features), channels, set,
                 corners.get(), options.normalize, lanes, cuda::AsNative(out));
  });
}

template void SparseInterpolate<Device::kCuda>(CudaContext&, CoordsView, const float*, int64_t,
                                               const float*, int64_t, int64_t, const int32_t*,
                                               const InterpolateOptions&, float*);
template void SparseInterpolate<Device::kCuda>(CudaContext&, CoordsView, const Float16*, int64_t,
                                               const float*, int64_t, int64_t, const int32_t*,
                                               const InterpolateOptions&, Float16*);
template void SparseInterpolate<Device::kCuda>(CudaContext&, CoordsView, const BFloat16*, int64_t,
                                               const float*, int64_t, int64_t, const int32_t*,
                                               const InterpolateOptions&, BFloat16*);

}  // namespace rulebook
