// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// Hostile or mistaken arguments are errors with the values in them, whatever build looks on.
#include <cstdint>
#include <limits>
#include <vector>

#include "check.h"
#include "rulebook/dense.h"
#include "rulebook/nms.h"
#include "rulebook/pooling.h"
#include "rulebook/rows.h"
#include "rulebook/voxelize.h"
#include "support.h"

using rulebook::Error;
using support::Axes;
using support::Coords;
using support::kCpu;

namespace {

constexpr int64_t kHuge = std::numeric_limits<int64_t>::max();

std::unique_ptr<rulebook::CpuContext> Pool() { return rulebook::MakeThreadPool(2); }

}  // namespace

TEST(ShapesThatOverflowAreErrors) {
  CHECK_THROWS(Error, "2147483647",
               rulebook::CheckSpatialShape(Axes({2147483647, 2147483647, 2147483647})));
  CHECK_THROWS(Error, "0", rulebook::CheckSpatialShape(Axes({4, 0, 4})));
  CHECK_THROWS(Error, "-1", rulebook::CheckSpatialShape(Axes({-1})));
  CHECK_THROWS(Error, "cells", rulebook::CheckedProduct(kHuge, 2, kHuge, "cells"));
  CHECK_EQ(rulebook::CheckedProduct(0, kHuge, kHuge, "cells"), 0);
}

TEST(GeometryOutOfRangeIsAnError) {
  const auto shape = Axes({8, 8, 8});
  for (const auto& broken :
       {support::Geometry(3, 0, 1, 0), support::Geometry(3, 3, 0, 0),
        support::Geometry(3, 3, 1, -1), support::Geometry(3, 99, 1, 0),
        support::Geometry(3, 3, kHuge, 0), support::Geometry(3, 3, 1, kHuge)}) {
    CHECK_THROWS(Error, "", {
      broken.Check();
      broken.OutputShape(shape);
    });
  }
  CHECK_THROWS(Error, "2", rulebook::SubmanifoldGeometry(Axes({3, 2, 3}), Axes({1, 1, 1})));
  // Refused before any of them is multiplied.
  CHECK_THROWS(Error, "kernel_size", rulebook::SubmanifoldGeometry(Axes({kHuge}), Axes({3})));
  CHECK_THROWS(Error, "dilation", rulebook::SubmanifoldGeometry(Axes({5}), Axes({kHuge})));
  auto transposed = support::Geometry(1, 3, 4, 0);
  transposed.transposed = true;
  CHECK_THROWS(Error, "spatial_shape", transposed.OutputShape(Axes({kHuge})));
}

TEST(ATransposedBlowUpIsAnError) {
  rulebook::ConvGeometry geometry = support::Geometry(3, 16, 16, 0);
  geometry.transposed = true;
  const auto pool = Pool();
  const auto shape = Axes({1000, 1000, 1000});
  Coords coords{3, {}};
  for (int32_t x = 0; x < 1000; ++x) {
    for (int32_t y = 0; y < 100; ++y) coords.values.insert(coords.values.end(), {0, x, y, 5});
  }
  bool allocated = false;
  // 2^30 cells over 16^3 kernel offsets: found out on the way, not after 2^26 sites.
  CHECK_THROWS(Error, "262144",
               rulebook::SparseRulebook<kCpu>(*pool, coords.view(), shape, geometry, [&](int64_t) {
                 allocated = true;
                 return rulebook::GeneratedSites{};
               }));
  CHECK(!allocated);
}

TEST(CoordsOutOfOrderOrRangeAreErrors) {
  const auto pool = Pool();
  const auto shape = Axes({4, 4});
  const auto check = [&](std::vector<int32_t> values) {
    const Coords coords{2, std::move(values)};
    rulebook::CheckCanonical<kCpu>(*pool, coords.view(), shape);
  };
  check({0, 1, 1, 0, 1, 2});
  CHECK_THROWS(Error, "1", check({0, 1, 2, 0, 1, 1}));
  CHECK_THROWS(Error, "1", check({0, 1, 1, 0, 1, 1}));
  CHECK_THROWS(Error, "4", check({0, 1, 4}));
  CHECK_THROWS(Error, "-1", check({0, -1, 0}));
  CHECK_THROWS(Error, "-2", check({-2, 0, 0}));
  CHECK_THROWS(Error, "65536", check({65536, 0, 0}));
  CHECK_THROWS(Error, "", support::Sort(*pool, Coords{2, {0, 3, 3, 0, 1, 1, 0, 3, 3}}, shape));
  CHECK_THROWS(Error, "2147483647",
               support::Sort(*pool, Coords{2, {0, 1, std::numeric_limits<int32_t>::max()}}, shape));
}

TEST(NeighborsOutOfRangeAreErrors) {
  const auto pool = Pool();
  const std::vector<float> features = {1, 2, 3};
  std::vector<float> out(4);
  const std::vector<float> kernel = {1};
  const rulebook::WeightShape shape{1, 1, 1, 1};
  const auto weight = rulebook::PackWeight<kCpu, float>(*pool, kernel.data(), shape);
  for (const int32_t row : {3, -2, std::numeric_limits<int32_t>::max()}) {
    const std::vector<int32_t> neighbors = {0, row, 2, -1};
    CHECK_THROWS(Error, std::to_string(row),
                 support::Convolve(*pool, features, 3, neighbors, 4, shape, *weight));
    CHECK_THROWS(Error, std::to_string(row),
                 rulebook::SparsePool<kCpu, float>(*pool, features.data(), 3, 1, neighbors.data(),
                                                   1, 4, rulebook::PoolMode::kMax, out.data()));
    CHECK_THROWS(Error, std::to_string(row),
                 rulebook::GatherRows<kCpu, float>(*pool, features.data(), 3, 1, neighbors.data(),
                                                   4, 0.0F, out.data()));
    std::vector<int32_t> inverse(3);
    CHECK_THROWS(Error, std::to_string(row),
                 rulebook::InverseRulebook<kCpu>(*pool, neighbors.data(), 1, 4, 3, inverse.data()));
  }
}

TEST(MoreRowsThanARulebookCanNameAreErrors) {
  const auto pool = Pool();
  const float one = 1;
  const auto weight = rulebook::PackWeight<kCpu, float>(*pool, &one, {1, 1, 1, 1});
  rulebook::ConvInputs<float> in;
  in.inputs = int64_t{1} << 32;
  CHECK_THROWS(Error, "4294967296", rulebook::SparseConv<kCpu, float>(*pool, in, *weight, nullptr));
  in.inputs = 0;
  in.outputs = int64_t{1} << 32;
  CHECK_THROWS(Error, "4294967296", rulebook::SparseConv<kCpu, float>(*pool, in, *weight, nullptr));
}

TEST(WeightsOfNoLegalShapeAreErrors) {
  const auto pool = Pool();
  const float one = 1;
  for (const rulebook::WeightShape& shape :
       {rulebook::WeightShape{0, 1, 1, 1}, rulebook::WeightShape{1, 0, 1, 1},
        rulebook::WeightShape{1, 1, 1, 0}, rulebook::WeightShape{1, 4, 6, 3},
        rulebook::WeightShape{4096, 1 << 20, 1 << 20, 1}}) {
    CHECK_THROWS(Error, "", rulebook::PackWeight<kCpu, float>(*pool, &one, shape));
  }
}

TEST(ADenseTensorThatWouldFillMemoryIsAnError) {
  CHECK_THROWS(Error, "", rulebook::DenseElements(65536, 256, Axes({1000, 1000, 1000})));
  CHECK_THROWS(Error, "", rulebook::DenseElements(kHuge, kHuge, Axes({4, 4, 4})));
  CHECK_EQ(rulebook::DenseElements(2, 3, Axes({4, 5})), 120);
}

TEST(ABatchIndexPastTheBatchIsAnError) {
  const auto pool = Pool();
  const std::vector<float> features = {1, 2};
  const Coords coords{1, {0, 1, 5, 2}};
  std::vector<float> out(64);
  CHECK_THROWS(Error, "5",
               rulebook::SparseGlobalPool<kCpu, float>(*pool, features.data(), 1, coords.view(), 2,
                                                       rulebook::PoolMode::kSum, out.data()));
  CHECK_THROWS(Error, "5",
               rulebook::SparseToDense<kCpu, float>(*pool, coords.view(), features.data(), 1, 2,
                                                    Axes({4}), out.data()));
}

TEST(PointsWithoutAPlaceAreDroppedAndBadGridsAreErrors) {
  const auto pool = Pool();
  rulebook::VoxelizeOptions options;
  options.grid = {{0, 0, 0, 4, 4, 4}, {1, 1, 1}};
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float inf = std::numeric_limits<float>::infinity();
  const std::vector<float> points = {nan, 1, 1, inf, 1,     1, -inf, 1, 1,
                                     4,   1, 1, 1,   1e30F, 1, 1,    2, 3};
  const std::vector<int32_t> batch(6, 0);
  std::vector<int32_t> voxel(6, 77);
  std::vector<int32_t> coords;
  std::vector<float> features;
  const auto run = [&](const std::vector<int32_t>& point_batch) {
    rulebook::Voxelize<kCpu>(*pool, points.data(), 6, 3, point_batch.data(), options, voxel.data(),
                             [&](int64_t rows) {
                               coords.resize(static_cast<size_t>(rows * 4));
                               features.resize(static_cast<size_t>(rows * 3));
                               return rulebook::Voxels{coords.data(), features.data()};
                             });
  };
  run(batch);
  CHECK(voxel == (std::vector<int32_t>{-1, -1, -1, -1, -1, 0}));
  CHECK(coords == (std::vector<int32_t>{0, 3, 2, 1}));
  CHECK_THROWS(Error, "-4", run({0, 0, 0, 0, 0, -4}));
  options.grid.voxel_size = {1, 0, 1};
  CHECK_THROWS(Error, "0", run(batch));
  options.grid = {{0, 0, 0, 4, nan, 4}, {1, 1, 1}};
  CHECK_THROWS(Error, "", run(batch));
  options.grid = {{-3e38F, -3e38F, -3e38F, 3e38F, 3e38F, 3e38F}, {1e-3F, 1e-3F, 1e-3F}};
  CHECK_THROWS(Error, "", run(batch));
}

TEST(BoxesThatAreNoNumbersTakeNoPart) {
  const auto pool = Pool();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> boxes = {0, 0, 0, 2, 2, 2, 0,   nan, 0, 0, 2, 2, 2, 0,
                                    0, 0, 0, 0, 0, 0, nan, 50,  0, 0, 2, 2, 2, 1};
  std::vector<float> scores = {0.9F, nan, -1.0F, 0.7F};
  const std::vector<int32_t> frame = {0, 0, 0, 0};
  std::vector<int64_t> kept;
  const auto run = [&] {
    rulebook::RotatedNms<kCpu>(*pool, boxes.data(), scores.data(), frame.data(), 4,
                               rulebook::NmsOptions{}, [&](int64_t rows) {
                                 kept.resize(static_cast<size_t>(rows));
                                 return kept.data();
                               });
  };
  run();
  CHECK(kept == (std::vector<int64_t>{0, 3}));
  scores[2] = 0.8F;
  run();
  CHECK(kept == (std::vector<int64_t>{0, 3}));
}
