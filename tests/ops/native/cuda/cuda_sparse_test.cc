// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <optional>
#include <set>
#include <vector>

#include "check.h"
#include "device_support.h"
#include "rulebook/rulebook.h"

using rulebook::ConvGeometry;
using rulebook::CudaContext;
using rulebook::SpatialShape;
using support::Axes;
using support::Coords;
using support::DeviceArray;
using support::DeviceCoords;
using support::kCpu;
using support::kCuda;
using support::Same;

namespace {

#if defined(VOXGATE_EMULATION_THREAD)
constexpr int kGeometries = 12;  // its time is ten times the plain build's
constexpr int64_t kManySites = 150;
#else
constexpr int kGeometries = 50;
constexpr int64_t kManySites = 500;
#endif

support::Rulebook SparseOnDevice(CudaContext& context, const Coords& coords,
                                 const SpatialShape& shape, const ConvGeometry& geometry) {
  const DeviceCoords input(context, coords);
  std::optional<DeviceArray<int32_t>> sites;
  std::optional<DeviceArray<int32_t>> neighbors;
  rulebook::SparseRulebook<kCuda>(context, input.view(), shape, geometry, [&](int64_t rows) {
    sites.emplace(context, rows * (coords.axes + 1));
    neighbors.emplace(context, rows * geometry.KernelVolume());
    return rulebook::GeneratedSites{sites->get(), neighbors->get()};
  });
  return {{coords.axes, sites->Read()}, neighbors->Read()};
}

std::vector<int32_t> AtOnCpu(rulebook::CpuContext& context, const Coords& coords,
                             const SpatialShape& shape, const ConvGeometry& geometry,
                             const Coords& out_coords) {
  std::vector<int32_t> neighbors(static_cast<size_t>(geometry.KernelVolume() * out_coords.rows()));
  rulebook::SparseRulebookAt<kCpu>(context, coords.view(), shape, geometry, out_coords.view(),
                                   neighbors.data());
  return neighbors;
}

std::vector<int32_t> AtOnDevice(CudaContext& context, const Coords& coords,
                                const SpatialShape& shape, const ConvGeometry& geometry,
                                const Coords& out_coords) {
  const DeviceCoords input(context, coords);
  const DeviceCoords output(context, out_coords);
  const DeviceArray<int32_t> neighbors(context, geometry.KernelVolume() * out_coords.rows());
  rulebook::SparseRulebookAt<kCuda>(context, input.view(), shape, geometry, output.view(),
                                    neighbors.get());
  return neighbors.Read();
}

void CheckSparse(const Coords& coords, const SpatialShape& shape, const ConvGeometry& geometry) {
  const auto pool = rulebook::MakeThreadPool(1);
  const support::Rulebook expected = support::Sparse(*pool, coords, shape, geometry);
  support::OnDevices([&](CudaContext& context) {
    const support::Rulebook made = SparseOnDevice(context, coords, shape, geometry);
    CHECK(made.out_coords == expected.out_coords);
    CHECK(made.neighbors == expected.neighbors);
  });
}

void CheckAt(const Coords& coords, const SpatialShape& shape, const ConvGeometry& geometry,
             const Coords& out_coords) {
  const auto pool = rulebook::MakeThreadPool(1);
  const std::vector<int32_t> expected = AtOnCpu(*pool, coords, shape, geometry, out_coords);
  support::OnDevices([&](CudaContext& context) {
    CHECK(AtOnDevice(context, coords, shape, geometry, out_coords) == expected);
  });
}

ConvGeometry Transposed(ConvGeometry geometry, int64_t output_padding) {
  geometry.transposed = true;
  geometry.output_padding = Same(geometry.axes(), output_padding);
  return geometry;
}

ConvGeometry Dilated(int axes, int64_t kernel, int64_t stride, int64_t padding) {
  ConvGeometry geometry = support::Geometry(axes, kernel, stride, padding);
  geometry.dilation = Same(axes, 2);
  return geometry;
}

// What networks have: the next level down, and up again.
std::vector<ConvGeometry> UsualGeometries(int axes) {
  ConvGeometry up = Transposed(support::Geometry(axes, 2, 2, 0), 0);
  if (axes == 4) up.kernel_size = Axes({1, 2, 1, 2});
  return {support::Geometry(axes, axes < 4 ? 3 : 2, 2, axes < 4 ? 1 : 0), up};
}

std::vector<ConvGeometry> OtherGeometries(int axes) {
  ConvGeometry uneven = support::Geometry(axes, 1, 1, 0);
  const int64_t kernels[] = {4, 1, 3, 2};
  const int64_t strides[] = {2, 3, 1, 2};
  const int64_t paddings[] = {2, 0, 3, 1};
  for (int axis = 0; axis < axes; ++axis) {
    uneven.kernel_size[axis] = kernels[axis];
    uneven.stride[axis] = strides[axis];
    uneven.padding[axis] = paddings[axis];
  }
  return {uneven,
          Transposed(uneven, 0),
          support::Geometry(axes, 2, 3, 0),
          Dilated(axes, 2, 1, 1),
          Dilated(axes, 3, 2, 2),
          Dilated(axes, 2, 3, 0),
          Transposed(support::Geometry(axes, 2, 3, 1), 2),
          Transposed(Dilated(axes, 2, 2, 1), 1)};
}

// The rows of a and every third row of b, once each.
Coords Mixed(const Coords& a, const Coords& b) {
  std::set<std::vector<int32_t>> sites;
  const auto add = [&](const Coords& coords, int64_t row) {
    sites.emplace(coords.view().row(row), coords.view().row(row) + coords.axes + 1);
  };
  for (int64_t row = 0; row < a.rows(); ++row) add(a, row);
  for (int64_t row = 0; row < b.rows(); row += 3) add(b, row);
  Coords mixed{a.axes, {}};
  for (const auto& site : sites) {
    mixed.values.insert(mixed.values.end(), site.begin(), site.end());
  }
  return mixed;
}

// Output sites that are generated and output sites that are given: some that have inputs, and the
// first corner, which may have none.
void CheckGeometry(const support::SiteCase& c, const ConvGeometry& geometry) {
  CheckSparse(c.coords, c.shape, geometry);
  const auto pool = rulebook::MakeThreadPool(1);
  const Coords fed = support::Sparse(*pool, c.coords, c.shape, geometry).out_coords;
  const SpatialShape out_shape = geometry.OutputShape(c.shape);
  SpatialShape corner = Same(c.shape.axes, 0);
  for (int axis = 0; axis < corner.axes; ++axis)
    corner[axis] = std::min<int64_t>(out_shape[axis], 2);
  CheckAt(c.coords, c.shape, geometry, Mixed(support::RandomSites(1, corner, 1, 1), fed));
}

}  // namespace

TEST(UsualRulebooksLikeTheCpu) {
  for (const support::SiteCase& c : support::SiteCases()) {
    const std::vector<ConvGeometry> geometries = UsualGeometries(c.shape.axes);
    if (c.coords.rows() > 2 * kManySites) {
      CheckSparse(c.coords, c.shape, geometries[0]);
      continue;
    }
    for (const ConvGeometry& geometry : geometries) CheckGeometry(c, geometry);
  }
}

TEST(OtherRulebooksLikeTheCpu) {
  for (const support::SiteCase& c : support::SiteCases()) {
    if (c.coords.rows() > 19) continue;
    for (const ConvGeometry& geometry : OtherGeometries(c.shape.axes)) CheckGeometry(c, geometry);
  }
}

TEST(ManySitesOfOtherRulebooks) {
  const SpatialShape shape = Axes({19, 31, 23});
  const Coords coords = support::Thinned(support::RandomSites(2, shape, 6, 3), kManySites);
  for (const ConvGeometry& geometry : OtherGeometries(3)) CheckGeometry({shape, coords}, geometry);
}

TEST(FramesWithoutSites) {
  const SpatialShape shape = Axes({5, 7});
  const Coords coords{2, {3, 0, 0, 3, 4, 6, 900, 2, 2, 65535, 0, 0, 65535, 4, 6}};
  for (const ConvGeometry& geometry : UsualGeometries(2)) CheckGeometry({shape, coords}, geometry);
}

TEST(OneCell) { CheckGeometry({Axes({1, 1}), {2, {0, 0, 0}}}, support::Geometry(2, 1, 1, 0)); }

TEST(ArbitraryGeometry) {
  int checked = 0;
  for (uint64_t seed = 0; checked < kGeometries; ++seed) {
    support::Random random(seed);
    const int axes = 1 + static_cast<int>(random.Below(4));
    const int64_t largest[] = {2147483647, 3000000, 40000, 3000};
    ConvGeometry geometry = support::Geometry(axes, 1, 1, 0);
    geometry.transposed = random.Below(2) == 0;
    SpatialShape shape = Same(axes, 0);
    for (int axis = 0; axis < axes; ++axis) {
      shape[axis] = 1 + random.Below(random.Below(2) == 0 ? largest[axes - 1] : 9);
      geometry.kernel_size[axis] = 1 + random.Below(axis == 0 ? 40 : 4);
      geometry.stride[axis] = 1 + random.Below(axis == 0 ? 70 : 6);
      const int64_t dilations[] = {1, 1 + random.Below(12), 1 + random.Below(4000)};
      geometry.dilation[axis] = dilations[random.Below(3)];
      const int64_t paddings[] = {0, random.Below(6), random.Below(100000), int64_t{1} << 30};
      geometry.padding[axis] = paddings[random.Below(4)];
      if (!geometry.transposed) continue;
      geometry.output_padding[axis] =
          random.Below(std::max(geometry.stride[axis], geometry.dilation[axis]));
    }
    try {
      geometry.Check();
      geometry.OutputShape(shape);
    } catch (const rulebook::Error&) {
      continue;
    }
    std::set<std::vector<int32_t>> sites;
    for (int64_t site = random.Below(30); site > 0; --site) {
      std::vector<int32_t> row = {static_cast<int32_t>(random.Below(3) * 32767)};
      for (int axis = 0; axis < axes; ++axis) {
        const int64_t near = random.Below(std::min<int64_t>(shape[axis], 9));
        const int64_t place[] = {near, shape[axis] - 1 - near, random.Below(shape[axis])};
        row.push_back(static_cast<int32_t>(place[random.Below(3)]));
      }
      sites.insert(row);
    }
    Coords coords{axes, {}};
    for (const auto& row : sites) {
      coords.values.insert(coords.values.end(), row.begin(), row.end());
    }
    if (geometry.KernelVolume() * coords.rows() > 600) continue;
    CheckGeometry({shape, coords}, geometry);
    ++checked;
  }
}

TEST(InputThatTheCpuRefuses) {
  const ConvGeometry geometry = support::Geometry(2, 3, 2, 1);
  const auto check = [&](const Coords& coords, const SpatialShape& shape, const ConvGeometry& g) {
    support::CheckSameError(
        [&](rulebook::CpuContext& pool) { support::Sparse(pool, coords, shape, g); },
        [&](CudaContext& context) { SparseOnDevice(context, coords, shape, g); });
  };
  const SpatialShape shape = Axes({5, 6});
  check({2, {0, 1, 1, 0, 5, 0, 0, -1, 0}}, shape, geometry);
  check({2, {0, 1, 1, -1, 0, 0}}, shape, geometry);
  check({2, {65536, 1, 1}}, shape, geometry);
  check({2, {0, 1, 2, 0, 1, 1, 0, 9, 9}}, shape, geometry);
  check({2, {0, 1, 1, 0, 1, 1}}, shape, geometry);
  check({1, {0, 1}}, shape, geometry);
  check({2, {0, 1, 1}}, Axes({5, 6, 7}), geometry);
  check({2, {0, 1, 1}}, Axes({5, 0}), geometry);
  check({2, {0, 1, 1}}, Axes({2, 2}), support::Geometry(2, 3, 1, 0));
  check({2, {0, 1, 1}}, shape, Transposed(geometry, 2));
  check({2, {}}, shape, support::Geometry(2, 65, 1, 40));
}

TEST(GivenSitesThatTheCpuRefuses) {
  const auto check = [](const Coords& coords, const SpatialShape& shape, const Coords& out_coords,
                        const ConvGeometry& geometry) {
    support::CheckSameError(
        [&](rulebook::CpuContext& pool) { AtOnCpu(pool, coords, shape, geometry, out_coords); },
        [&](CudaContext& context) { AtOnDevice(context, coords, shape, geometry, out_coords); });
  };
  const Coords pixel{2, {0, 1, 1}};
  check(pixel, Axes({5, 6}), {1, {0, 1}}, support::Geometry(2, 3, 1, 1));
  check(pixel, Axes({5, 6, 7}), pixel, support::Geometry(2, 3, 1, 1));
  check(pixel, Axes({2, 2}), pixel, support::Geometry(2, 3, 1, 0));
}

// Nothing is read back, so nothing can be said of such sites; memory beside the result is safe.
TEST(GivenSitesThatAreNotCanonical) {
  const Coords coords{2, {0, 3, 3, -1, 0, 0, 0, 9, -7, 0, 3, 3, 0, 2, 2}};
  for (const ConvGeometry& geometry : UsualGeometries(2)) {
    support::OnDevices([&](CudaContext& context) {
      for (const int32_t row : AtOnDevice(context, coords, Axes({4, 4}), geometry, coords)) {
        CHECK(row >= -1 && row < coords.rows());
      }
    });
  }
}

#if !defined(VOXGATE_EMULATION_THREAD)
// 2^30 cells over 4096 kernel offsets allow 262144 sites; 65 inputs that share none make 266240.
TEST(TooManySitesAreAnError) {
  const ConvGeometry geometry = Transposed(support::Geometry(1, 4096, 4096, 0), 0);
  Coords coords{1, {}};
  for (int32_t x = 0; x < 65; ++x) coords.values.insert(coords.values.end(), {0, x});
  const SpatialShape shape = Axes({65});
  support::CheckSameError(
      [&](rulebook::CpuContext& pool) { support::Sparse(pool, coords, shape, geometry); },
      [&](CudaContext& context) { SparseOnDevice(context, coords, shape, geometry); }, 1);
}
#endif
