// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// As on the CPU: points are sorted by the key of their cell, keeping point order within a cell, so
// that voxels are runs, canonical, and each is reduced in point order. One read-back.
#include "columns.h"
#include "device.h"
#include "grid_key.h"
#include "point_grid.h"
#include "reduce.h"
#include "row_lanes.h"
#include "rulebook/voxelize.h"
#include "runs.h"
#include "site_scan.h"
#include "voxelize_input.h"

namespace rulebook {
namespace cuda {
namespace {

constexpr uint64_t kNoVoxel = ~uint64_t{0};

struct Report {
  int64_t bad_batch;  // the lowest point whose batch index is out of range, or kNone
  int64_t voxels;
};

// The points by (cell, point). `outside` is the key of those in no cell, above all others.
struct SortedPoints {
  const uint64_t* keys;
  const int32_t* rows;  // the points
  int64_t count;
  uint64_t outside;
};

template <int kAxes>
__device__ uint64_t CellKey(const PointGrid& grid, const KeyGrid& cells, const float* point,
                            int64_t batch, uint64_t outside) {
  constexpr float kBeyondAnyGrid = 2147483648.0F;
  auto key = static_cast<uint64_t>(batch);
#pragma unroll
  for (int axis = 0; axis < kAxes; ++axis) {
    // Compared before it is converted: this also turns away NaN and infinity, and conversion to an
    // integer is the floor of what is left.
    const float position = PointPosition<kAxes>(grid, point, axis);
    if (!(position >= 0.0F && position < kBeyondAnyGrid)) return outside;
    const auto cell = static_cast<int64_t>(position);
    if (cell >= cells.size[1 + axis]) return outside;
    key = key * static_cast<uint64_t>(cells.size[1 + axis]) + static_cast<uint64_t>(cell);
  }
  return key;
}

template <int kAxes>
__global__ void FindCells(const float* points, int64_t count, int64_t fields,
                          const int32_t* point_batch, PointGrid grid, KeyGrid cells,
                          uint64_t outside, uint64_t* keys, int32_t* rows, Report* report) {
  const int64_t p = GlobalThread();
  if (p >= count) return;
  const int64_t batch = point_batch[p];
  const bool in_range = batch >= 0 && batch < cells.size[0];
  if (!in_range) NoteRow(&report->bad_batch, p);
  keys[p] = in_range ? CellKey<kAxes>(grid, cells, points + p * fields, batch, outside) : outside;
  rows[p] = static_cast<int32_t>(p);
}

// first[place] = 1 where a voxel begins, else 0; summed up, the voxels that begin up to and with
// this place.
__global__ void MarkVoxels(SortedPoints sorted, int32_t* first) {
  const int64_t place = GlobalThread();
  if (place >= sorted.count) return;
  const uint64_t key = sorted.keys[place];
  first[place] = key != sorted.outside && (place == 0 || sorted.keys[place - 1] != key) ? 1 : 0;
}

__device__ inline bool IsFirst(const int32_t* sums, int64_t place) {
  return sums[place] != (place > 0 ? sums[place - 1] : 0);
}

// keys[v] = (batch index, first point) of voxel v. The rest of keys [points] is kNoVoxel already.
__global__ void MarkAppearance(SortedPoints sorted, const int32_t* voxels,
                               const int32_t* point_batch, int point_bits, uint64_t* keys) {
  const int64_t place = GlobalThread();
  if (place >= sorted.count || !IsFirst(voxels, place)) return;
  const int32_t point = sorted.rows[place];
  keys[voxels[place] - 1] =
      static_cast<uint64_t>(point_batch[point]) << point_bits | static_cast<uint64_t>(point);
}

// kept[v] = 1 for the first max_voxels voxels of each batch index, else 0. keys [count] are those
// of MarkAppearance, sorted, and voxels say whose they are.
__global__ void KeepFirstVoxels(const uint64_t* keys, const int32_t* voxels, int64_t count,
                                int point_bits, int64_t max_voxels, int32_t* kept) {
  const int64_t place = GlobalThread();
  if (place >= count) return;
  const uint64_t key = keys[place];
  const uint64_t batch_begin = key >> point_bits << point_bits;
  int64_t low = 0;
  int64_t high = place;
  while (low < high) {
    const int64_t middle = low + (high - low) / 2;
    if (keys[middle] < batch_begin) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  kept[voxels[place]] = key != kNoVoxel && place - low < max_voxels ? 1 : 0;
}

// voxels: MarkVoxels' sums. kept: KeepFirstVoxels' sums, or null where no voxel is dropped.
__global__ void AssignPoints(SortedPoints sorted, const int32_t* voxels, const int32_t* kept,
                             int32_t* point_voxel, Run* runs, Report* report) {
  const int64_t place = GlobalThread();
  if (place >= sorted.count) return;
  const bool is_last = place == sorted.count - 1;
  if (is_last) report->voxels = kept != nullptr ? kept[place] : voxels[place];
  const uint64_t key = sorted.keys[place];
  int32_t voxel = -1;
  if (key != sorted.outside) {
    voxel = voxels[place] - 1;
    if (kept != nullptr) voxel = IsFirst(kept, voxel) ? kept[voxel] - 1 : -1;
  }
  point_voxel[sorted.rows[place]] = voxel;
  if (voxel < 0) return;
  if (IsFirst(voxels, place)) runs[voxel].begin = static_cast<int32_t>(place);
  if (is_last || sorted.keys[place + 1] != key) runs[voxel].end = static_cast<int32_t>(place + 1);
}

// One field of the points rows[0 … count), in this order.
__device__ float ReduceField(const float* points, int64_t fields, int64_t field,
                             const int32_t* rows, int64_t count, VoxelReduce reduce) {
  if (reduce == VoxelReduce::kFirst) count = 1;
  const float result = FoldRun(
      count, [&](int64_t i) { return points[rows[i] * fields + field]; },
      [&](float before, float value) {
        return reduce == VoxelReduce::kMax ? MaxOf(before, value) : before + value;
      });
  return reduce == VoxelReduce::kMean ? result / static_cast<float>(count) : result;
}

template <int kColumns>
__global__ void ReduceVoxels(const float* points, int64_t fields, SortedPoints sorted,
                             const Run* runs, int64_t voxels, KeyGrid cells, VoxelReduce reduce,
                             int64_t max_points, RowLanes lanes, int32_t* coords, float* features) {
  const int64_t voxel = LaneRow(lanes);
  if (voxel >= voxels) return;
  const Run run = runs[voxel];
  int64_t count = run.end - run.begin;
  if (max_points > 0 && count > max_points) count = max_points;
  for (int64_t field = LaneFirst(lanes); field < fields; field += LaneStep(lanes)) {
    features[voxel * fields + field] =
        ReduceField(points, fields, field, sorted.rows + run.begin, count, reduce);
  }
  if (LaneFirst(lanes) == 0) {
    UnpackSite<kColumns>(cells, sorted.keys[run.begin], coords + voxel * kColumns);
  }
}

// The first max_voxels of each batch index: writes kept [points], the sums that AssignPoints takes.
// rows: 0, 1, …
void DropVoxels(CudaContext& context, const SortedPoints& sorted, const int32_t* voxels,
                const int32_t* point_batch, const int32_t* rows, int64_t max_voxels,
                int32_t* kept) {
  const int64_t count = sorted.count;
  // So many that no point's bits are those of kNoVoxel.
  const int point_bits = BitWidth(static_cast<uint64_t>(count));
  const int bits = point_bits + BitWidth(static_cast<uint64_t>(kMaxBatchSize - 1));
  const Scratch<uint64_t> keys(context, count);
  const Scratch<uint64_t> sorted_keys(context, count);
  const Scratch<int32_t> sorted_voxels(context, count);
  FillBytes(context, keys.get(), 0xFF, count);
  const LaunchShape shape = OneThreadEach(count);
  Launch(context, shape, &MarkAppearance, sorted, voxels, point_batch, point_bits, keys.get());
  SortPairs(context, keys.get(), sorted_keys.get(), rows, sorted_voxels.get(), count, bits);
  Launch(context, shape, &KeepFirstVoxels, sorted_keys.get(), sorted_voxels.get(), count,
         point_bits, max_voxels, kept);
  InclusiveSum(context, kept, kept, count);
}

// Sorts the points, finds the voxels and tells every point its own.
Report FindVoxels(CudaContext& context, const cpu::PointsView& points,
                  const VoxelizeOptions& options, const SpatialShape& shape, uint64_t* sorted_keys,
                  int32_t* sorted_rows, Run* runs, int32_t* point_voxel) {
  const int64_t count = points.count;
  const SortedPoints sorted{sorted_keys, sorted_rows, count, KeyCount(shape)};
  const LaunchShape per_point = OneThreadEach(count);
  const Scratch<Report> report(context, 1);
  const Scratch<int32_t> rows(context, count);
  const Scratch<int32_t> voxels(context, count);
  FillBytes(context, report.get(), 0x7F, 1);
  {
    const Scratch<uint64_t> keys(context, count);
    WithColumns(1 + shape.axes, [&](auto columns) {
      Launch(context, per_point, &FindCells<columns - 1>, points.data, count, points.fields,
             points.batch, MakePointGrid(options.grid), MakeKeyGrid(shape), sorted.outside,
             keys.get(), rows.get(), report.get());
    });
    SortPairs(context, keys.get(), sorted_keys, rows.get(), sorted_rows, count,
              BitWidth(sorted.outside));
  }
  Launch(context, per_point, &MarkVoxels, sorted, voxels.get());
  InclusiveSum(context, voxels.get(), voxels.get(), count);
  const bool drops = options.max_voxels > 0 && options.max_voxels < count;
  const Scratch<int32_t> kept(context, drops ? count : 0);
  if (drops) {
    DropVoxels(context, sorted, voxels.get(), points.batch, rows.get(), options.max_voxels,
               kept.get());
  }
  Launch(context, per_point, &AssignPoints, sorted, voxels.get(), kept.get(), point_voxel, runs,
         report.get());
  return ReadBack(context, report.get());
}

}  // namespace
}  // namespace cuda

template <>
void Voxelize<Device::kCuda>(CudaContext& context, const float* points, int64_t num_points,
                             int64_t num_fields, const int32_t* point_batch,
                             const VoxelizeOptions& options, int32_t* point_voxel,
                             FunctionRef<Voxels(int64_t)> allocate) {
  const SpatialShape shape = options.grid.Shape();
  const cpu::PointsView view{points, num_points, num_fields, point_batch};
  cpu::CheckVoxelize(view, options);
  if (num_points == 0) {
    allocate(0);
    return;
  }
  const cuda::Scratch<uint64_t> keys(context, num_points);
  const cuda::Scratch<int32_t> rows(context, num_points);
  const cuda::Scratch<cuda::Run> runs(context, num_points);
  const cuda::Report found = cuda::FindVoxels(context, view, options, shape, keys.get(), rows.get(),
                                              runs.get(), point_voxel);
  if (found.bad_batch != cuda::kNone) {
    cpu::ThrowPointBatch(found.bad_batch, cuda::ReadBack(context, point_batch + found.bad_batch));
  }

  const Voxels voxels = allocate(found.voxels);
  const cuda::SortedPoints sorted{keys.get(), rows.get(), num_points, cuda::KeyCount(shape)};
  const cuda::RowLanes lanes = cuda::LanesFor(num_fields);
  WithColumns(1 + shape.axes, [&](auto columns) {
    cuda::Launch(context, cuda::LanesForEach(found.voxels, lanes), &cuda::ReduceVoxels<columns>,
                 points, num_fields, sorted, runs.get(), found.voxels, cuda::MakeKeyGrid(shape),
                 options.reduce, options.max_points, lanes, voxels.coords, voxels.features);
  });
}

}  // namespace rulebook
