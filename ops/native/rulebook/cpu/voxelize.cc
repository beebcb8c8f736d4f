// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// Points are packed into the key of their cell and sorted by it, keeping point order within a cell:
// voxels then are runs, already canonical, and each is reduced by one thread in point order.
#include "rulebook/voxelize.h"

#include <algorithm>
#include <limits>
#include <vector>

#include "columns.h"
#include "key_sort.h"
#include "parallel.h"
#include "site_key.h"
#include "vector_ops.h"
#include "voxelize_input.h"

namespace rulebook {
namespace {

using cpu::KeyIndex;
using cpu::PointsView;

constexpr int64_t kPointsPerBlock = 8192;
constexpr int64_t kVoxelsPerBlock = 2048;
constexpr uint64_t kOutside = std::numeric_limits<uint64_t>::max();

template <size_t kAxes>
uint64_t CellKey(const cpu::GridAxes& grid, const cpu::KeyBox& box, const float* point,
                 int32_t batch) {
  uint64_t key = static_cast<uint64_t>(batch);
  for (size_t axis = 0; axis < kAxes; ++axis) {
    // Compared before it is converted: this also turns away NaN and infinity, and conversion to an
    // integer is the floor of what is left.
    const double position = double{grid.Position<kAxes>(point, axis)};
    if (!(position >= 0.0 && position < static_cast<double>(box.size[axis + 1]))) return kOutside;
    key = key * box.size[axis + 1] + static_cast<uint64_t>(position);
  }
  return key;
}

// (key, point) of the points inside the grid, by (key, point).
std::vector<KeyIndex> SortPoints(CpuContext& context, const PointsView& points,
                                 const VoxelGrid& grid, const cpu::KeyBox& box) {
  const cpu::GridAxes axes(grid);
  const size_t blocks = static_cast<size_t>(cpu::CeilDiv(points.count, kPointsPerBlock));
  std::vector<uint64_t> keys(static_cast<size_t>(points.count));
  std::vector<uint64_t> max_key(blocks);
  std::vector<int64_t> first(blocks + 1, 0);
  WithColumns(box.columns, [&](auto columns) {
    constexpr size_t kAxes = static_cast<size_t>(columns) - 1;
    cpu::ForBlocks(context, points.count, kPointsPerBlock, [&](int64_t b, int64_t p0, int64_t p1) {
      int64_t count = 0;
      uint64_t largest = 0;
      for (int64_t p = p0; p < p1; ++p) {
        cpu::CheckPointBatch(points, p);
        const uint64_t key = CellKey<kAxes>(axes, box, points.row(p), points.batch[p]);
        keys[static_cast<size_t>(p)] = key;
        if (key == kOutside) continue;
        ++count;
        largest = std::max(largest, key);
      }
      first[static_cast<size_t>(b) + 1] = count;
      max_key[static_cast<size_t>(b)] = largest;
    });
  });
  for (size_t b = 1; b <= blocks; ++b) first[b] += first[b - 1];
  std::vector<KeyIndex> items(static_cast<size_t>(first.back()));
  cpu::ForBlocks(context, points.count, kPointsPerBlock, [&](int64_t b, int64_t p0, int64_t p1) {
    size_t place = static_cast<size_t>(first[static_cast<size_t>(b)]);
    for (int64_t p = p0; p < p1; ++p) {
      const uint64_t key = keys[static_cast<size_t>(p)];
      if (key != kOutside) items[place++] = {key, p};
    }
  });
  uint64_t largest = 0;
  for (const uint64_t key : max_key) largest = std::max(largest, key);
  cpu::SortByKey(context, items, largest);
  return items;
}

// A voxel's points are items [begin, end).
struct Run {
  int64_t begin;
  int64_t end;
};

std::vector<Run> FindRuns(const std::vector<KeyIndex>& items) {
  std::vector<Run> runs;
  const int64_t total = static_cast<int64_t>(items.size());
  for (int64_t i = 0; i < total; ++i) {
    if (i == 0 || items[static_cast<size_t>(i)].key != items[static_cast<size_t>(i) - 1].key) {
      if (i > 0) runs.back().end = i;
      runs.push_back({i, total});
    }
  }
  return runs;
}

// Keeps, of each batch index, the max_voxels runs whose first points come first.
std::vector<Run> FirstVoxels(const std::vector<KeyIndex>& items, const std::vector<Run>& runs,
                             uint64_t volume, int64_t max_voxels) {
  auto first_point = [&](size_t v) { return items[static_cast<size_t>(runs[v].begin)].index; };
  auto batch = [&](size_t v) { return items[static_cast<size_t>(runs[v].begin)].key / volume; };
  std::vector<Run> kept;
  std::vector<int64_t> appearance;
  for (size_t v = 0, end = 0; v < runs.size(); v = end) {
    appearance.clear();
    for (end = v; end < runs.size() && batch(end) == batch(v); ++end) {
      appearance.push_back(first_point(end));
    }
    int64_t last_kept = std::numeric_limits<int64_t>::max();
    if (static_cast<int64_t>(appearance.size()) > max_voxels) {
      const auto nth = appearance.begin() + (max_voxels - 1);
      std::nth_element(appearance.begin(), nth, appearance.end());
      last_kept = *nth;
    }
    for (size_t w = v; w < end; ++w) {
      if (first_point(w) <= last_kept) kept.push_back(runs[w]);
    }
  }
  return kept;
}

// Reduces the points of items[0 … count) into out [F].
void ReduceVoxel(const PointsView& points, const KeyIndex* items, int64_t count, VoxelReduce reduce,
                 float* out) {
  std::copy_n(points.row(items[0].index), points.fields, out);
  if (reduce == VoxelReduce::kFirst) return;
  for (int64_t i = 1; i < count; ++i) {
    const float* point = points.row(items[i].index);
    if (reduce == VoxelReduce::kMax) {
      cpu::MaxInto(point, points.fields, out);
    } else {
      cpu::AddInto(point, points.fields, out);
    }
  }
  if (reduce == VoxelReduce::kMean) cpu::Divide(static_cast<float>(count), points.fields, out);
}

void WriteCoords(uint64_t key, const cpu::KeyBox& box, int32_t* row) {
  for (size_t c = static_cast<size_t>(box.columns) - 1; c > 0; --c) {
    row[c] = static_cast<int32_t>(key % box.size[c]);
    key /= box.size[c];
  }
  row[0] = static_cast<int32_t>(key);
}

}  // namespace

template <>
void Voxelize<Device::kCpu>(CpuContext& context, const float* points, int64_t num_points,
                            int64_t num_fields, const int32_t* point_batch,
                            const VoxelizeOptions& options, int32_t* point_voxel,
                            FunctionRef<Voxels(int64_t)> allocate) {
  const SpatialShape shape = options.grid.Shape();
  const PointsView view{points, num_points, num_fields, point_batch};
  cpu::CheckVoxelize(view, options);

  const cpu::KeyBox box = cpu::GridBox(shape);
  const std::vector<KeyIndex> items = SortPoints(context, view, options.grid, box);
  std::vector<Run> runs = FindRuns(items);
  if (options.max_voxels > 0) {
    uint64_t volume = 1;
    for (int axis = 0; axis < shape.axes; ++axis) volume *= static_cast<uint64_t>(shape[axis]);
    runs = FirstVoxels(items, runs, volume, options.max_voxels);
  }

  std::fill_n(point_voxel, num_points, -1);
  const int64_t total = static_cast<int64_t>(runs.size());
  const Voxels voxels = allocate(total);
  cpu::ForBlocks(context, total, kVoxelsPerBlock, [&](int64_t, int64_t begin, int64_t end) {
    for (int64_t v = begin; v < end; ++v) {
      const Run run = runs[static_cast<size_t>(v)];
      const KeyIndex* members = items.data() + run.begin;
      int64_t count = run.end - run.begin;
      for (int64_t i = 0; i < count; ++i) point_voxel[members[i].index] = static_cast<int32_t>(v);
      if (options.max_points > 0) count = std::min(count, options.max_points);
      ReduceVoxel(view, members, count, options.reduce, voxels.features + v * num_fields);
      WriteCoords(members[0].key, box, voxels.coords + v * box.columns);
    }
  });
}

}  // namespace rulebook
