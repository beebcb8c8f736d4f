// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// Points to voxels and back, by hand and across thread counts.
#include <vector>

#include "check.h"
#include "rulebook/interpolate.h"
#include "rulebook/voxelize.h"
#include "support.h"

using rulebook::VoxelReduce;
using support::Coords;
using support::kCpu;

namespace {

struct Voxelized {
  Coords coords;
  std::vector<float> features;
  std::vector<int32_t> point_voxel;
};

Voxelized Run(rulebook::CpuContext& context, const std::vector<float>& points, int64_t fields,
              const std::vector<int32_t>& batch, const rulebook::VoxelizeOptions& options) {
  Voxelized result;
  result.coords.axes = options.grid.axes();
  result.point_voxel.assign(batch.size(), 77);
  rulebook::Voxelize<kCpu>(
      context, points.data(), static_cast<int64_t>(batch.size()), fields, batch.data(), options,
      result.point_voxel.data(), [&](int64_t rows) {
        result.coords.values.resize(static_cast<size_t>(rows * (1 + result.coords.axes)));
        result.features.resize(static_cast<size_t>(rows * fields));
        return rulebook::Voxels{result.coords.values.data(), result.features.data()};
      });
  return result;
}

// Six points on a line of four cells: x, value.
const std::vector<float> kLine = {2.5F, 10, 0.5F, 1, 2.25F, 20, 0.0F, 4, 4.0F, 9, 3.0F, 7};
const std::vector<int32_t> kLineBatch = {0, 0, 0, 0, 0, 0};

rulebook::VoxelizeOptions LineOptions(VoxelReduce reduce) {
  rulebook::VoxelizeOptions options;
  options.grid = {{0, 4}, {1}};
  options.reduce = reduce;
  return options;
}

}  // namespace

TEST(EveryReductionByHand) {
  const auto pool = rulebook::MakeThreadPool(2);
  const auto features = [&](VoxelReduce reduce) {
    return Run(*pool, kLine, 2, kLineBatch, LineOptions(reduce)).features;
  };
  using Values = std::vector<float>;
  CHECK(features(VoxelReduce::kMean) == (Values{0.25F, 2.5F, 2.375F, 15, 3, 7}));
  CHECK(features(VoxelReduce::kSum) == (Values{0.5F, 5, 4.75F, 30, 3, 7}));
  CHECK(features(VoxelReduce::kMax) == (Values{0.5F, 4, 2.5F, 20, 3, 7}));
  CHECK(features(VoxelReduce::kFirst) == (Values{0.5F, 1, 2.5F, 10, 3, 7}));
  const auto voxels = Run(*pool, kLine, 2, kLineBatch, LineOptions(VoxelReduce::kMean));
  CHECK(voxels.coords.values == (std::vector<int32_t>{0, 0, 0, 2, 0, 3}));
  CHECK(voxels.point_voxel == (std::vector<int32_t>{1, 0, 1, 0, -1, 2}));
}

TEST(MaxPointsKeepsTheFirstAndTheOthersTheirVoxel) {
  const auto pool = rulebook::MakeThreadPool(1);
  auto options = LineOptions(VoxelReduce::kMean);
  options.max_points = 1;
  const auto voxels = Run(*pool, kLine, 2, kLineBatch, options);
  CHECK(voxels.features == (std::vector<float>{0.5F, 1, 2.5F, 10, 3, 7}));
  CHECK(voxels.point_voxel == (std::vector<int32_t>{1, 0, 1, 0, -1, 2}));
}

TEST(MaxVoxelsCountsPerBatchIndexByFirstAppearance) {
  const auto pool = rulebook::MakeThreadPool(1);
  auto options = LineOptions(VoxelReduce::kSum);
  options.max_voxels = 1;
  const auto voxels = Run(*pool, kLine, 2, {3, 0, 3, 0, 0, 3}, options);
  CHECK(voxels.coords.values == (std::vector<int32_t>{0, 0, 3, 2}));
  CHECK(voxels.features == (std::vector<float>{0.5F, 5, 4.75F, 30}));
  CHECK(voxels.point_voxel == (std::vector<int32_t>{1, 0, 1, 0, -1, -1}));
}

TEST(PointOrderIsTheReverseOfCoordsOrder) {
  const auto pool = rulebook::MakeThreadPool(1);
  rulebook::VoxelizeOptions options;
  options.grid = {{0, -40, -3, 70.4F, 40, 1}, {0.05F, 0.05F, 0.1F}};
  CHECK_EQ(rulebook::ToString(options.grid.Shape()), "[40, 1600, 1408]");
  const auto voxels = Run(*pool, {10.02F, -39.99F, 0.95F}, 3, {2}, options);
  CHECK(voxels.coords.values == (std::vector<int32_t>{2, 39, 0, 200}));
}

TEST(PointsGiveTheSameBytesAtAnyThreadCount) {
  support::Random random(40);
  const int64_t count = 60000;
  std::vector<float> points = random.Floats(count * 4);
  std::vector<int32_t> batch(static_cast<size_t>(count));
  for (int32_t& value : batch) value = static_cast<int32_t>(random.Below(3));
  rulebook::VoxelizeOptions options;
  options.grid = {{-1, -1, -1, 0.9F, 0.9F, 0.9F}, {0.05F, 0.05F, 0.1F}};
  rulebook::InterpolateOptions sampling;
  sampling.grid = options.grid;
  Voxelized first;
  std::vector<float> first_samples;
  for (const int threads : {1, 2, 4}) {
    const auto pool = rulebook::MakeThreadPool(threads);
    const auto voxels = Run(*pool, points, 4, batch, options);
    std::vector<float> samples(points.size());
    rulebook::SparseInterpolate<kCpu, float>(*pool, voxels.coords.view(), voxels.features.data(), 4,
                                             points.data(), count, 4, batch.data(), sampling,
                                             samples.data());
    if (threads == 1) {
      first = voxels;
      first_samples = samples;
    }
    CHECK(voxels.coords == first.coords);
    CHECK(voxels.point_voxel == first.point_voxel);
    CHECK(voxels.features == first.features);
    CHECK(samples == first_samples);
  }
}

TEST(InterpolationByHand) {
  const auto pool = rulebook::MakeThreadPool(1);
  const Coords coords{1, {0, 0, 0, 1, 1, 1}};
  const std::vector<float> features = {10, 20, 500};
  const std::vector<float> points = {0.5F, 0.75F, 1.75F, 3.5F, -0.25F};
  const std::vector<int32_t> batch(points.size(), 0);
  rulebook::InterpolateOptions options;
  options.grid = {{0, 4}, {1}};
  const auto run = [&] {
    std::vector<float> out(points.size(), 77.0F);
    rulebook::SparseInterpolate<kCpu, float>(*pool, coords.view(), features.data(), 1,
                                             points.data(), 5, 1, batch.data(), options,
                                             out.data());
    return out;
  };
  using Values = std::vector<float>;
  CHECK(run() == (Values{10, 12.5F, 20, 0, 10}));
  options.normalize = false;
  CHECK(run() == (Values{10, 12.5F, 15, 0, 2.5F}));
  options.anchor = rulebook::InterpolateAnchor::kCorner;
  CHECK(run() == (Values{15, 17.5F, 5, 0, 7.5F}));
  options.mode = rulebook::InterpolateMode::kNearest;
  CHECK(run() == (Values{20, 20, 0, 0, 10}));
  options.anchor = rulebook::InterpolateAnchor::kCenter;
  CHECK(run() == (Values{10, 10, 20, 0, 0}));
}
