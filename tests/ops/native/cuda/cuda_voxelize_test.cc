// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <limits>
#include <optional>
#include <vector>

#include "check.h"
#include "element_support.h"
#include "rulebook/voxelize.h"

using rulebook::CudaContext;
using rulebook::VoxelizeOptions;
using rulebook::VoxelReduce;
using rulebook::Voxels;
using support::Coords;
using support::DeviceArray;
using support::kCpu;
using support::kCuda;

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

struct Points {
  int64_t fields;
  std::vector<float> values;
  std::vector<int32_t> batch;

  int64_t count() const { return static_cast<int64_t>(batch.size()); }
};

struct Voxelized {
  Coords coords;
  std::vector<float> features;
  std::vector<int32_t> point_voxel;
};

Voxelized OnCpu(rulebook::CpuContext& pool, const Points& points, const VoxelizeOptions& options) {
  const int axes = options.grid.axes();
  Voxelized result{{axes, {}}, {}, std::vector<int32_t>(points.batch.size())};
  rulebook::Voxelize<kCpu>(pool, points.values.data(), points.count(), points.fields,
                           points.batch.data(), options, result.point_voxel.data(),
                           [&](int64_t voxels) {
                             result.coords.values.resize(static_cast<size_t>(voxels * (1 + axes)));
                             result.features.resize(static_cast<size_t>(voxels * points.fields));
                             return Voxels{result.coords.values.data(), result.features.data()};
                           });
  return result;
}

Voxelized OnDevice(CudaContext& context, const Points& points, const VoxelizeOptions& options) {
  const int axes = options.grid.axes();
  const DeviceArray<float> values(context, points.values);
  const DeviceArray<int32_t> batch(context, points.batch);
  const DeviceArray<int32_t> point_voxel(context, points.count());
  std::optional<DeviceArray<int32_t>> coords;
  std::optional<DeviceArray<float>> features;
  rulebook::Voxelize<kCuda>(context, values.get(), points.count(), points.fields, batch.get(),
                            options, point_voxel.get(), [&](int64_t voxels) {
                              CHECK(!coords.has_value());
                              coords.emplace(context, voxels * (1 + axes));
                              features.emplace(context, voxels * points.fields);
                              return Voxels{coords->get(), features->get()};
                            });
  CHECK(coords.has_value());
  return {{axes, coords->Read()}, features->Read(), point_voxel.Read()};
}

// The device's voxels are the CPU's. Returns these.
Voxelized CheckCase(const Points& points, const VoxelizeOptions& options) {
  const auto pool = rulebook::MakeThreadPool(1);
  Voxelized expected = OnCpu(*pool, points, options);
  support::OnDevices([&](CudaContext& context) {
    const Voxelized found = OnDevice(context, points, options);
    CHECK(found.coords == expected.coords);
    CHECK(found.point_voxel == expected.point_voxel);
    CHECK(support::SameBytes(found.features, expected.features));
  });
  return expected;
}

// [0, 6) on each axis, in voxels of a size that float32 has not.
rulebook::VoxelGrid SmallGrid(int axes) {
  rulebook::VoxelGrid grid;
  for (int axis = 0; axis < axes; ++axis) grid.voxel_size.push_back(0.6F + 0.1F * float(axis));
  grid.range.assign(static_cast<size_t>(2 * axes), 0.0F);
  for (int axis = 0; axis < axes; ++axis) grid.range[static_cast<size_t>(axes + axis)] = 6.0F;
  return grid;
}

// Points around the grid's [0, 6), one in sixteen of them with a strange value in a random field;
// frames in any order.
Points RandomPoints(int64_t count, int64_t fields, int32_t frames, uint64_t seed) {
  constexpr float kStrange[] = {kNan, kInfinity, -kInfinity, 3e38F,  -3e38F,
                                0.0F, -0.0F,     6.0F,       -1e-40F};
  support::Random random(seed);
  Points points{fields, {}, {}};
  for (int64_t p = 0; p < count; ++p) {
    for (int64_t f = 0; f < fields; ++f) {
      points.values.push_back(3.0F + 3.2F * random.Float() * std::fabs(random.Float()));
    }
    if (random.Below(16) == 0) {
      points.values[points.values.size() - 1 - static_cast<size_t>(random.Below(fields))] =
          kStrange[random.Below(9)];
    }
    points.batch.push_back(static_cast<int32_t>(random.Below(frames)));
  }
  return points;
}

}  // namespace

TEST(VoxelsAreTheCpus) {
  const VoxelReduce reduces[] = {VoxelReduce::kMean, VoxelReduce::kMax, VoxelReduce::kSum,
                                 VoxelReduce::kFirst};
  int kind = 0;
  for (int axes = 1; axes <= rulebook::kMaxAxes; ++axes) {
    for (const int64_t count : {0, 1, 19, 989}) {
      const Points points = RandomPoints(count, axes + kind % 3, 3, static_cast<uint64_t>(count));
      for (int i = 0; i < 2; ++i, ++kind) {
        VoxelizeOptions options;
        options.grid = SmallGrid(axes);
        options.reduce = reduces[kind % 4];
        options.max_points = kind % 3;
        options.max_voxels = i == 0 ? 0 : 7;
        const Voxelized voxels = CheckCase(points, options);
        if (count == 989) CHECK(voxels.coords.rows() >= (i == 0 ? 21 : 14));
      }
    }
  }
}

TEST(EachReductionOfEveryField) {
  const Points points = RandomPoints(989, 37, 2, 5);  // of more fields than a warp has lanes
  VoxelizeOptions options;
  options.grid = SmallGrid(2);
  for (const VoxelReduce reduce :
       {VoxelReduce::kMean, VoxelReduce::kMax, VoxelReduce::kSum, VoxelReduce::kFirst}) {
    options.reduce = reduce;
    const Voxelized voxels = CheckCase(points, options);
    CHECK(voxels.coords.rows() > 100);
  }
}

TEST(AVoxelOfManyPoints) {
  for (const int64_t count : {7, 8, 9, 10, 16, 17, 989}) {
    Points points = RandomPoints(count, 3, 1, 11);
    for (size_t p = 0; p < points.batch.size(); ++p) points.values[3 * p] = 0.25F;
    VoxelizeOptions options;
    options.grid = {{0, 4}, {1}};
    for (const int64_t max_points : {0, 9, 10}) {
      options.max_points = max_points;
      CHECK_EQ(CheckCase(points, options).coords.rows(), int64_t{1});
    }
  }
}

TEST(EdgesOfCells) {
  // Each edge, and the floats beside it, of cells whose size float32 rounds.
  VoxelizeOptions options;
  options.grid = {{-51.2F, 51.2F}, {0.1F}};
  options.reduce = VoxelReduce::kFirst;
  Points points{1, {}, {}};
  for (int edge = -513; edge <= 513; edge += 3) {
    const float x = static_cast<float>(edge) * 0.1F;
    points.values.insert(points.values.end(),
                         {x, std::nextafter(x, -100.0F), std::nextafter(x, 100.0F)});
  }
  points.batch.assign(points.values.size(), 2);
  CHECK(CheckCase(points, options).coords.rows() > 400);
}

TEST(KeysOfSixtyThreeBits) {
  // 2^16 batch indices on 2^47 - 2^24 cells.
  VoxelizeOptions options;
  options.grid = {{0, 0, 8388607, 16777216}, {1, 1}};
  const Points points{2,
                      {8388606, 16777215, -1, 0, 0, 0, 8388607, 0, 5, 16777216, 8388606, 16777215},
                      {65535, 65535, 65535, 0, 0, 65534}};
  CHECK_EQ(CheckCase(points, options).coords.rows(), int64_t{3});
  options.max_voxels = 1;
  CHECK_EQ(CheckCase(points, options).coords.rows(), int64_t{2});
}

TEST(VoxelsAreDroppedByFirstAppearance) {
  // Cells 3 2 1 0 3 2 1 0 … of frame 1, with frame 0 between.
  Points points{1, {}, {}};
  for (int p = 0; p < 64; ++p) {
    points.values.push_back(static_cast<float>(3 - p / 2 % 4));
    points.batch.push_back(p % 2);
  }
  VoxelizeOptions options;
  options.grid = {{0, 4}, {1}};
  for (int64_t kept = 1; kept <= 4; ++kept) {
    options.max_voxels = kept;
    const Voxelized voxels = CheckCase(points, options);
    CHECK_EQ(voxels.coords.rows(), 2 * kept);
    CHECK_EQ(voxels.coords.values[1], static_cast<int32_t>(4 - kept));
    CHECK_EQ(voxels.point_voxel[7] >= 0, kept == 4);
  }
  options.max_voxels = 63;
  CHECK_EQ(CheckCase(points, options).coords.rows(), int64_t{8});
}

TEST(NoPointInside) {
  VoxelizeOptions options;
  options.grid = SmallGrid(3);
  for (const int64_t max_voxels : {0, 1}) {
    options.max_voxels = max_voxels;
    const Voxelized voxels = CheckCase({3, {-1, 0, 0, kNan, 1, 1, 1, 1, 6.5F}, {0, 1, 0}}, options);
    CHECK_EQ(voxels.coords.rows(), int64_t{0});
    CHECK(voxels.point_voxel == (std::vector<int32_t>{-1, -1, -1}));
  }
}

TEST(PointsOutsideBetweenThoseOfTheFirstCell) {
  // On 2^18 cells, so that the key of points outside has a bit more than all others.
  VoxelizeOptions options;
  options.grid = {{0, 4}, {1}};
  const Voxelized voxels =
      CheckCase({1, {-1, 0.5F, 4, 0.25F, 9, 0.125F}, {0, 0, 0, 0, 0, 0}}, options);
  CHECK_EQ(voxels.coords.rows(), int64_t{1});
}

TEST(WhatVoxelizeRefuses) {
  const auto check = [](const Points& points, const VoxelizeOptions& options) {
    support::CheckSameError([&](rulebook::CpuContext& pool) { OnCpu(pool, points, options); },
                            [&](CudaContext& context) { OnDevice(context, points, options); });
  };
  VoxelizeOptions options;
  options.grid = SmallGrid(2);
  Points points = RandomPoints(300, 2, 2, 3);
  points.batch[299] = 65536;
  check(points, options);
  points.batch[270] = -1;
  points.batch[290] = -2147483647;
  points.values[2 * 270] = kNan;  // outside, and refused all the same
  check(points, options);
  options.max_voxels = 3;
  check(points, options);
  options.max_voxels = -1;
  check(points, options);
  options.max_voxels = 0;
  options.max_points = -1;
  check(points, options);
  check({1, {1, 1}, {0, 0}}, options);
  options.grid.voxel_size[1] = 0.0F;
  check(points, options);
}
