// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#include <vector>

#include "check.h"
#include "device_support.h"
#include "rulebook/rulebook.h"

using rulebook::CudaContext;
using rulebook::PerAxis;
using rulebook::SpatialShape;
using support::Axes;
using support::Coords;
using support::DeviceArray;
using support::DeviceCoords;
using support::kCuda;
using support::Same;

namespace {

int64_t Volume(const PerAxis& kernel_size) {
  int64_t volume = 1;
  for (int axis = 0; axis < kernel_size.axes; ++axis) volume *= kernel_size[axis];
  return volume;
}

std::vector<int32_t> OnDevice(CudaContext& context, const Coords& coords, const SpatialShape& shape,
                              const PerAxis& kernel_size, const PerAxis& dilation) {
  const DeviceCoords sites(context, coords);
  const DeviceArray<int32_t> neighbors(context, Volume(kernel_size) * coords.rows());
  rulebook::SubmanifoldRulebook<kCuda>(context, sites.view(), shape, kernel_size, dilation,
                                       neighbors.get());
  return neighbors.Read();
}

void CheckRulebook(const Coords& coords, const SpatialShape& shape, const PerAxis& kernel_size,
                   const PerAxis& dilation) {
  const auto pool = rulebook::MakeThreadPool(1);
  std::vector<int32_t> expected(static_cast<size_t>(Volume(kernel_size) * coords.rows()));
  rulebook::SubmanifoldRulebook<support::kCpu>(*pool, coords.view(), shape, kernel_size, dilation,
                                               expected.data());
  support::OnDevices([&](CudaContext& context) {
    CHECK(OnDevice(context, coords, shape, kernel_size, dilation) == expected);
  });
}

}  // namespace

TEST(SubmanifoldLikeTheCpu) {
  for (const support::SiteCase& c : support::SiteCases()) {
    const int axes = c.shape.axes;
    const int64_t sizes[] = {7, 5, 3, 3};
    CheckRulebook(c.coords, c.shape, Same(axes, sizes[axes - 1]), Same(axes, 1));
  }
}

TEST(KernelsOfOtherShapes) {
  const SpatialShape shape = Axes({13, 8, 21});
  const Coords coords = support::RandomSites(2, shape, 9, 3);
  CheckRulebook(coords, shape, Axes({1, 1, 1}), Axes({1, 1, 1}));
  CheckRulebook(coords, shape, Axes({3, 1, 5}), Axes({2, 1, 3}));
  CheckRulebook(coords, shape, Axes({1, 7, 1}), Axes({1, 1, 1}));
  CheckRulebook(coords, shape, Axes({3, 3, 3}), Axes({1 << 29, 1, 1 << 30}));
}

TEST(TheEndsOfALargeGrid) {
  const SpatialShape shape = Axes({2147483647, 30000});
  const Coords coords{2, {0, 0, 0, 0, 0, 1, 0, 2147483646, 29998, 65535, 2147483645, 29999}};
  CheckRulebook(coords, shape, Axes({3, 3}), Axes({1, 1}));
}

// Nothing is read back, so nothing can be said of such sites; memory beside the result is safe.
TEST(SitesThatAreNotCanonical) {
  const SpatialShape shape = Axes({4, 4});
  const Coords coords{2, {0, 3, 3, -1, 0, 0, 0, 9, -7, 0, 3, 3, 0, 2, 2}};
  support::OnDevices([&](CudaContext& context) {
    for (const int32_t row : OnDevice(context, coords, shape, Axes({3, 3}), Axes({1, 1}))) {
      CHECK(row >= -1 && row < coords.rows());
    }
  });
}

TEST(RefusesWhatTheCpuRefuses) {
  support::OnDevices([](CudaContext& context) {
    const Coords coords{2, {0, 1, 1}};
    const SpatialShape shape = Axes({4, 4});
    CHECK_THROWS(rulebook::Error, "odd sizes",
                 OnDevice(context, coords, shape, Axes({2, 3}), Axes({1, 1})));
    CHECK_THROWS(rulebook::Error, "has 3 axes",
                 OnDevice(context, coords, Axes({4, 4, 4}), Axes({3, 3}), Axes({1, 1})));
  });
}
