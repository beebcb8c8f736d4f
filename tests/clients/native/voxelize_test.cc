// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// The rule of the Voxelize operator, on points chosen for its edges. That the bytes are the Python
// client's is for tests/clients/test_cpp_client.py to show.
#include "voxgate_client/voxelize.h"

#include <cmath>
#include <limits>
#include <vector>

#include "check.h"
#include "voxgate_client/error.h"

namespace voxgate {
namespace {

using Ints = std::vector<int32_t>;
using Floats = std::vector<float>;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();

// 4 x 3 x 2 cells of x, y, z.
VoxelGrid Grid() { return {{0, 0, 0, 4, 3, 2}, {1, 1, 1}}; }

Voxels Make(const Floats& points, size_t columns, const VoxelGrid& grid = Grid()) {
  return Voxelize(points.data(), points.size() / columns, columns, grid);
}

}  // namespace

TEST(ShapeIsInCoordsOrder) { CHECK(Grid().Shape() == (std::vector<int64_t>{2, 3, 4})); }

TEST(ShapeRoundsHalfUpFromFloat32) {
  const VoxelGrid kitti{{0, -40, -3, 70.4, 40, 1}, {0.05, 0.05, 0.1}};
  CHECK(kitti.Shape() == (std::vector<int64_t>{40, 1600, 1408}));
  const VoxelGrid half{{0, 0, 0, 2.5, 1, 1}, {1, 1, 1}};
  CHECK_EQ(half.Shape()[2], 3);
}

TEST(SitesAreCanonicalAndFeaturesMeans) {
  const Voxels voxels = Make({3.5F, 2.5F, 1.5F, 9,  //
                              0.5F, 0.5F, 0.5F, 1,  //
                              3.5F, 2.5F, 1.5F, 3,  //
                              1.5F, 0.5F, 0.5F, 5},
                             4);
  CHECK(voxels.coords == (Ints{0, 0, 0, 0, 0, 1, 1, 2, 3}));
  CHECK(voxels.features == (Floats{0.5F, 0.5F, 0.5F, 1, 1.5F, 0.5F, 0.5F, 5, 3.5F, 2.5F, 1.5F, 6}));
  CHECK_EQ(voxels.count(), 3U);
  CHECK_EQ(voxels.columns, 4U);
}

TEST(BordersAreInBelowAndOutAbove) {
  const Voxels voxels = Make({0, 0, 0,                                  //
                              4, 0, 0,                                  //
                              0, 3, 0,                                  //
                              0, 0, 2,                                  //
                              -1e-6F, 0, 0,                             //
                              std::nextafter(4.0F, 0.0F), 2.9F, 1.9F},  //
                             3);
  CHECK(voxels.coords == (Ints{0, 0, 0, 1, 2, 3}));
}

TEST(PointsThatAreNoNumbersAreOutside) {
  const Voxels voxels = Make({kNan, 0, 0, 0, kInf, 0, 0, 0, -kInf, 1, 1, 1, kInf, kNan, kNan}, 3);
  CHECK(voxels.coords == (Ints{1, 1, 1}));
}

TEST(FeaturesMayBeAnything) {
  const Voxels voxels = Make({0, 0, 0, kNan, 1, 0, 0, kInf}, 4);
  CHECK_EQ(voxels.count(), 2U);
  CHECK(std::isnan(voxels.features[3]));
  CHECK(voxels.features[7] == kInf);
}

TEST(MeansAreTakenInFloat64) {
  Floats points;
  for (int i = 0; i < 3; ++i) points.insert(points.end(), {0, 0, 0, i == 0 ? 16777216.0F : 1.0F});
  CHECK_EQ(Make(points, 4).features[3], static_cast<float>(16777218.0 / 3));
}

TEST(NoPointsGiveNoSites) {
  const Voxels voxels = Voxelize(nullptr, 0, 4, Grid());
  CHECK_EQ(voxels.count(), 0U);
  CHECK_EQ(voxels.axes, 3U);
  CHECK_EQ(voxels.columns, 4U);
}

TEST(FourAxesAreUsedAsFarAsTheyGo) {
  const VoxelGrid grid{{0, 0, 0, 0, 2, 2, 2, 2}, {1, 1, 1, 1}};
  CHECK(Make({0, 1, 0, 1}, 4, grid).coords == (Ints{1, 0, 1, 0}));
}

TEST(GridsThatAreNoneAreRefused) {
  const auto refused = [](const VoxelGrid& grid, const char* part) {
    CHECK_THROWS(Error, part, grid.Shape());
  };
  refused({{}, {}}, "0 values");
  refused({{0, 0, 0, 1, 1}, {1, 1, 1}}, "5 values and voxel_size 3");
  refused({{0, 0, 0, 0, 0, 1, 1, 1, 1, 1}, {1, 1, 1, 1, 1}}, "D from 1 to 4");
  refused({{0, 0, 0, 1, 0, 1}, {1, 1, 1}}, "axis 1 runs from 0 to 0");
  refused({{0, 0, 0, 1, 1, 1}, {1, 1, -1}}, "axis 2 has -1");
  refused({{0, 0, kNan, 1, 1, 1}, {1, 1, 1}}, "finite");
  refused({{0, 0, 0, 1e300, 1, 1}, {1, 1, 1}}, "finite");
  refused({{0, 0, 0, 1, 1, 1}, {1, 1, 1e-300}}, "above 0");
  refused({{0, 0, 0, 1e30, 1, 1}, {1, 1, 1}}, "2147483647");
  refused({{0, 0, 0, 1e9, 1e9, 1e9}, {1, 1, 1}}, "2^63");
  refused({{0, 0, 0, 0.4, 1, 1}, {1, 1, 1}}, "0 voxels");
}

TEST(TooFewColumnsAreRefused) {
  CHECK_THROWS(Error, "2 columns, expected at least 3", Make({0, 0}, 2));
}

}  // namespace voxgate
