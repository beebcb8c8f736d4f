// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <limits>
#include <vector>

#include "check.h"
#include "element_support.h"
#include "rulebook/interpolate.h"

using rulebook::InterpolateAnchor;
using rulebook::InterpolateMode;
using rulebook::InterpolateOptions;
using support::Coords;
using support::DeviceArray;
using support::kCpu;
using support::kCuda;

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

struct Points {
  int64_t fields;
  std::vector<float> values;
  std::vector<int32_t> batch;

  int64_t count() const { return static_cast<int64_t>(batch.size()); }
};

// Sites of up to three frames on 1 to 4 axes; points among them and around.
struct Scene {
  InterpolateOptions options;
  Coords coords;
  Points points;
};

Scene MakeScene(int axes, int64_t sites, int64_t points, uint64_t seed) {
  const rulebook::SpatialShape shapes[] = {support::Axes({1500}), support::Axes({40, 37}),
                                           support::Axes({11, 12, 10}),
                                           support::Axes({5, 7, 6, 6})};
  const float sizes[] = {0.5F, 0.25F, 0.1F, 1.0F};
  const rulebook::SpatialShape& shape = shapes[axes - 1];
  support::Random random(seed);
  Scene scene;
  scene.coords = support::Thinned(support::RandomSites(3, shape, 2, seed), sites);
  scene.points.fields = axes + 1;
  rulebook::VoxelGrid& grid = scene.options.grid;
  grid.range.resize(static_cast<size_t>(2 * axes));
  for (int column = 0; column < axes; ++column) {
    // One voxel fewer than sites may have: a network's grid may be larger than the points'.
    const auto cells = static_cast<float>(shape[axes - 1 - column] - 1);
    const float size = sizes[column];
    grid.voxel_size.push_back(size);
    grid.range[static_cast<size_t>(column)] = -1.0F;
    grid.range[static_cast<size_t>(axes + column)] = -1.0F + cells * size;
  }
  for (int64_t p = 0; p < points; ++p) {
    scene.points.batch.push_back(static_cast<int32_t>(random.Below(4)));
    for (int column = 0; column < axes; ++column) {
      const auto cells = static_cast<float>(shape[axes - 1 - column]);
      // Every fourth on a whole number of half voxels: corners without a weight.
      float position = (random.Float() * 0.55F + 0.5F) * cells;
      if (random.Below(4) == 0) position = std::floor(position) * 0.5F;
      scene.points.values.push_back(-1.0F + position * sizes[column]);
    }
    scene.points.values.push_back(kNaN);  // a field that is no coordinate
  }
  return scene;
}

// What the CPU says, of the features as they are rounded to T.
template <typename T>
std::vector<T> OnCpu(const Scene& scene, int64_t channels, const std::vector<T>& features) {
  const auto pool = rulebook::MakeThreadPool(1);
  const std::vector<float> widened = support::WidenAll(features);
  std::vector<float> out(static_cast<size_t>(scene.points.count() * channels));
  rulebook::SparseInterpolate<kCpu, float>(*pool, scene.coords.view(), widened.data(), channels,
                                           scene.points.values.data(), scene.points.count(),
                                           scene.points.fields, scene.points.batch.data(),
                                           scene.options, out.data());
  return support::RoundAll<T>(out);
}

template <typename T>
std::vector<T> OnDevice(rulebook::CudaContext& context, const Scene& scene, int64_t channels,
                        const std::vector<T>& features) {
  const support::DeviceCoords coords(context, scene.coords);
  const DeviceArray<T> x(context, features);
  const DeviceArray<float> points(context, scene.points.values);
  const DeviceArray<int32_t> batch(context, scene.points.batch);
  const DeviceArray<T> out(context, scene.points.count() * channels);
  rulebook::SparseInterpolate<kCuda, T>(context, coords.view(), x.get(), channels, points.get(),
                                        scene.points.count(), scene.points.fields, batch.get(),
                                        scene.options, out.get());
  return out.Read();
}

template <typename T>
void CheckScene(const Scene& scene, int64_t channels, uint64_t seeds = 3) {
  const auto features = support::RandomElements<T>(scene.coords.rows() * channels, 5);
  const std::vector<T> expected = OnCpu(scene, channels, features);
  support::OnDevices(
      [&](rulebook::CudaContext& context) {
        CHECK(support::SameBytes(OnDevice(context, scene, channels, features), expected));
      },
      seeds);
}

#if defined(VOXGATE_EMULATION_THREAD)
const std::vector<int64_t> kCounts = {0, 1, 19, 200};
#else
const std::vector<int64_t> kCounts = {0, 1, 19, 989};
#endif

}  // namespace

TEST(EveryNumberOfSitesAndPoints) {
  uint64_t seed = 1;
  for (const int axes : {1, 2, 3, 4}) {
    for (const int64_t sites : kCounts) {
      for (const int64_t points : kCounts) {
        Scene scene = MakeScene(axes, sites, points, seed++);
        scene.options.normalize = seed % 2 == 0;
        scene.options.anchor =
            seed % 3 == 0 ? InterpolateAnchor::kCorner : InterpolateAnchor::kCenter;
        support::ForElements([&](auto element) { CheckScene<decltype(element)>(scene, 2); });
      }
    }
  }
}

TEST(EveryOption) {
  for (const int axes : {1, 2, 3, 4}) {
    Scene scene = MakeScene(axes, kCounts.back(), 150, 90);
    for (const auto mode : {InterpolateMode::kNearest, InterpolateMode::kTrilinear}) {
      for (const auto anchor : {InterpolateAnchor::kCenter, InterpolateAnchor::kCorner}) {
        for (const bool normalize : {false, true}) {
          scene.options.mode = mode;
          scene.options.anchor = anchor;
          scene.options.normalize = normalize;
          support::ForElements([&](auto element) { CheckScene<decltype(element)>(scene, 3, 1); });
        }
      }
    }
  }
}

TEST(EveryNumberOfChannels) {
  Scene scene = MakeScene(3, kCounts.back(), 60, 91);
  for (const auto mode : {InterpolateMode::kNearest, InterpolateMode::kTrilinear}) {
    scene.options.mode = mode;
    for (const int64_t channels : support::kChannelCounts) {
      support::ForElements([&](auto element) { CheckScene<decltype(element)>(scene, channels); });
    }
  }
}

// The tests above compare with the CPU: this one makes sure that there is something to compare.
TEST(PointsFindSites) {
  const Scene scene = MakeScene(3, kCounts.back(), 150, 92);
  const auto features = support::RandomElements<float>(scene.coords.rows(), 5);
  int64_t found = 0;
  for (const float value : OnCpu(scene, 1, features)) found += value != 0.0F ? 1 : 0;
  CHECK(found > 10);
  CHECK(found < 150);
}

TEST(PointsThatLieNowhere) {
  Scene scene = MakeScene(3, 100, 0, 93);
  const float far[] = {kNaN, kInfinity, -kInfinity, 3e38F, -3e38F, 1e9F};
  for (int axis = 0; axis < 3; ++axis) {
    for (const float value : far) {
      for (int column = 0; column < 4; ++column) {
        scene.points.values.push_back(column == axis ? value : 0.0F);
      }
      scene.points.batch.push_back(0);
    }
  }
  for (const auto mode : {InterpolateMode::kNearest, InterpolateMode::kTrilinear}) {
    scene.options.mode = mode;
    const auto features = support::RandomElements<float>(scene.coords.rows() * 5, 5);
    support::OnDevices([&](rulebook::CudaContext& context) {
      for (const float value : OnDevice(context, scene, 5, features)) CHECK_EQ(value, 0.0F);
    });
  }
}

// The contract makes them undefined; they must not lead out of bounds. Here: in no frame.
TEST(BatchIndicesThatAreNone) {
  Scene scene = MakeScene(2, 100, 40, 94);
  for (size_t p = 0; p < scene.points.batch.size(); ++p) {
    scene.points.batch[p] = p % 2 == 0 ? -1 : std::numeric_limits<int32_t>::max();
  }
  const auto features = support::RandomElements<float>(scene.coords.rows(), 5);
  support::OnDevices([&](rulebook::CudaContext& context) {
    for (const float value : OnDevice(context, scene, 1, features)) CHECK_EQ(value, 0.0F);
  });
}

// A corner without a weight is not read: its infinite value stays where it is.
TEST(InfiniteValuesStayWithTheirSites) {
  Scene scene;
  scene.options.grid = {{0, 4}, {1}};
  scene.coords = {1, {0, 0, 0, 1, 0, 2}};
  scene.points = {1, {0.5F, 1.25F, 2.5F}, {0, 0, 0}};
  const std::vector<float> features = {1.0F, kInfinity, 3.0F};
  support::OnDevices([&](rulebook::CudaContext& context) {
    CHECK(OnDevice(context, scene, 1, features) == (std::vector<float>{1.0F, kInfinity, 3.0F}));
  });
}

TEST(WhatIsRefused) {
  const Scene good = MakeScene(3, 19, 5, 95);
  const auto refused = [](const Scene& scene) {
    const std::vector<float> features(static_cast<size_t>(scene.coords.rows()));
    support::CheckSameError(
        [&](rulebook::CpuContext& pool) {
          rulebook::SparseInterpolate<kCpu, float>(pool, scene.coords.view(), features.data(), 1,
                                                   scene.points.values.data(), scene.points.count(),
                                                   scene.points.fields, scene.points.batch.data(),
                                                   scene.options, nullptr);
        },
        [&](rulebook::CudaContext& context) { OnDevice(context, scene, 1, features); }, 1);
  };
  Scene bad = good;
  bad.coords = MakeScene(2, 19, 5, 95).coords;
  refused(bad);
  bad = good;
  bad.points.fields = 2;
  refused(bad);
  bad = good;
  bad.options.grid.voxel_size[1] = 0.0F;
  refused(bad);
  bad = good;
  bad.options.grid.range.pop_back();
  refused(bad);
}
