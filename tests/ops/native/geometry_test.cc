// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// Rulebooks against the definition of a convolution, over geometry that no small grid brings out:
// lines far longer than what is looked at in one piece, wide dilation, stride and padding, kernels
// longer than a machine word.
#include <algorithm>
#include <iterator>
#include <map>
#include <set>
#include <vector>

#include "check.h"
#include "rulebook/rulebook.h"
#include "support.h"

using rulebook::ConvGeometry;
using rulebook::SpatialShape;
using support::Coords;
using support::Random;
using Site = std::vector<int32_t>;

namespace {

// expected[o][k] = the input row that feeds output site o through kernel offset k.
using Expected = std::map<Site, std::map<int64_t, int32_t>>;

// The output coordinate of one axis, or -1.
int64_t OutputOf(const ConvGeometry& geometry, int axis, int64_t input, int64_t k, int64_t size) {
  const int64_t stride = geometry.stride[axis];
  int64_t output = 0;
  if (geometry.transposed) {
    output = input * stride - geometry.padding[axis] + k * geometry.dilation[axis];
  } else {
    const int64_t scaled = input + geometry.padding[axis] - k * geometry.dilation[axis];
    if (scaled < 0 || scaled % stride != 0) return -1;
    output = scaled / stride;
  }
  return output >= 0 && output < size ? output : -1;
}

Expected ByDefinition(const Coords& coords, const ConvGeometry& geometry,
                      const SpatialShape& out_shape) {
  Expected expected;
  for (int64_t row = 0; row < coords.rows(); ++row) {
    const int32_t* in = coords.view().row(row);
    for (int64_t offset = 0; offset < geometry.KernelVolume(); ++offset) {
      Site site(in, in + coords.axes + 1);
      int64_t rest = offset;
      bool fed = true;
      for (int axis = coords.axes - 1; axis >= 0; --axis) {
        const int64_t k = rest % geometry.kernel_size[axis];
        rest /= geometry.kernel_size[axis];
        const int64_t output = OutputOf(geometry, axis, in[1 + axis], k, out_shape[axis]);
        fed = fed && output >= 0;
        site[static_cast<size_t>(axis) + 1] = static_cast<int32_t>(output);
      }
      if (fed) expected[site][offset] = static_cast<int32_t>(row);
    }
  }
  return expected;
}

std::vector<int32_t> NeighborsOf(const Expected& expected, const Coords& outputs, int64_t volume) {
  std::vector<int32_t> neighbors(static_cast<size_t>(volume * outputs.rows()), -1);
  for (int64_t o = 0; o < outputs.rows(); ++o) {
    const int32_t* site = outputs.view().row(o);
    const auto found = expected.find(Site(site, site + outputs.axes + 1));
    if (found == expected.end()) continue;
    for (const auto& [k, row] : found->second) {
      neighbors[static_cast<size_t>(k * outputs.rows() + o)] = row;
    }
  }
  return neighbors;
}

Coords ToCoords(const std::set<Site>& sites, int axes) {
  Coords coords{axes, {}};
  for (const Site& site : sites) {
    coords.values.insert(coords.values.end(), site.begin(), site.end());
  }
  return coords;
}

// Near the first and the last cells of every axis, and anywhere.
Coords ScatteredSites(Random& random, const SpatialShape& shape, int64_t count) {
  std::set<Site> sites;
  for (int64_t i = 0; i < count; ++i) {
    Site site = {random.Below(8) == 0 ? 65535 : static_cast<int32_t>(random.Below(2))};
    for (int axis = 0; axis < shape.axes; ++axis) {
      const int64_t near = random.Below(std::min<int64_t>(shape[axis], 9));
      const int64_t place[] = {near, shape[axis] - 1 - near, random.Below(shape[axis])};
      site.push_back(static_cast<int32_t>(place[random.Below(3)]));
    }
    sites.insert(site);
  }
  return ToCoords(sites, shape.axes);
}

ConvGeometry RandomGeometry(Random& random, int axes) {
  ConvGeometry geometry = support::Geometry(axes, 1, 1, 0);
  geometry.transposed = random.Below(2) == 0;
  const int64_t wide = random.Below(2 * axes);
  for (int axis = 0; axis < axes; ++axis) {
    geometry.kernel_size[axis] = 1 + random.Below(axis == wide ? 100 : 4);
    geometry.stride[axis] = 1 + random.Below(axis == wide ? 70 : 4);
    const int64_t dilations[] = {1, 1, 1 + random.Below(3), 1 + random.Below(4000)};
    geometry.dilation[axis] = dilations[random.Below(4)];
    const int64_t paddings[] = {0, random.Below(6), random.Below(100000), int64_t{1} << 30};
    geometry.padding[axis] = paddings[random.Below(random.Below(8) == 0 ? 4 : 3)];
    if (!geometry.transposed) continue;
    geometry.output_padding[axis] =
        random.Below(std::max(geometry.stride[axis], geometry.dilation[axis]));
  }
  return geometry;
}

SpatialShape RandomShape(Random& random, int axes) {
  SpatialShape shape = support::Same(axes, 0);
  const int64_t largest[] = {2147483647, 3000000, 40000, 3000};
  const bool large = random.Below(3) == 0;
  for (int axis = 0; axis < axes; ++axis) {
    shape[axis] = 1 + random.Below(large ? largest[axes - 1] : 9);
    if (axis == axes - 1 && !large) shape[axis] += random.Below(30000);
  }
  return shape;
}

// Whether this input shape can have the geometry at all.
bool IsLegal(const ConvGeometry& geometry, const SpatialShape& shape) {
  try {
    geometry.Check();
    geometry.OutputShape(shape);
    return true;
  } catch (const rulebook::Error&) {
    return false;
  }
}

void CheckAgainstDefinition(rulebook::CpuContext& context, Random& random, const Coords& coords,
                            const SpatialShape& shape, const ConvGeometry& geometry) {
  const SpatialShape out_shape = geometry.OutputShape(shape);
  const Expected expected = ByDefinition(coords, geometry, out_shape);
  std::set<Site> sites;
  for (const auto& [site, rows] : expected) sites.insert(site);
  const auto made = support::Sparse(context, coords, shape, geometry);
  CHECK(made.out_coords == ToCoords(sites, coords.axes));
  const int64_t volume = geometry.KernelVolume();
  CHECK(made.neighbors == NeighborsOf(expected, made.out_coords, volume));

  // Some of these output sites, and others.
  const Coords others = ScatteredSites(random, out_shape, 20);
  for (auto site = sites.begin(); site != sites.end();) {
    site = random.Below(2) == 0 ? sites.erase(site) : std::next(site);
  }
  for (int64_t row = 0; row < others.rows(); ++row) {
    sites.insert(Site(others.view().row(row), others.view().row(row) + coords.axes + 1));
  }
  const Coords given = ToCoords(sites, coords.axes);
  std::vector<int32_t> neighbors(static_cast<size_t>(volume * given.rows()));
  rulebook::SparseRulebookAt<support::kCpu>(context, coords.view(), shape, geometry, given.view(),
                                            neighbors.data());
  CHECK(neighbors == NeighborsOf(expected, given, volume));
}

}  // namespace

TEST(RulebooksFollowTheDefinition) {
  const auto pool = rulebook::MakeThreadPool(2);
  int checked = 0;
  for (uint64_t seed = 0; checked < 200; ++seed) {
    Random random(seed);
    const int axes = 1 + static_cast<int>(random.Below(4));
    const SpatialShape shape = RandomShape(random, axes);
    const Coords coords = ScatteredSites(random, shape, random.Below(120));
    const ConvGeometry geometry = RandomGeometry(random, axes);
    if (!IsLegal(geometry, shape) || geometry.KernelVolume() * coords.rows() > 20000) continue;
    CheckAgainstDefinition(*pool, random, coords, shape, geometry);
    ++checked;
  }
}

namespace {

Coords FullLine(int32_t size) {
  Coords coords{1, {}};
  for (int32_t x = 0; x < size; ++x) coords.values.insert(coords.values.end(), {0, x});
  return coords;
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr int32_t kSize = 250000;  // the time is the plain build's to see
#else
constexpr int32_t kSize = 1000000;
#endif

}  // namespace

// Looking at all that a wide kernel spans would outlast the time limit of a test.
TEST(InputsBetweenTheKernelsCellsCostNothing) {
  const auto pool = rulebook::MakeThreadPool(1);
  ConvGeometry geometry = support::Geometry(1, 3, 1, kSize / 4);
  geometry.dilation[0] = kSize / 4;
  const auto made = support::Sparse(*pool, FullLine(kSize), support::Axes({kSize}), geometry);
  CHECK_EQ(made.out_coords.rows(), int64_t{kSize});
  CHECK_EQ(made.neighbors[size_t{kSize} - 1], kSize - 1 - kSize / 4);
}

TEST(CellsBetweenGeneratedSitesCostNothing) {
  const auto pool = rulebook::MakeThreadPool(1);
  ConvGeometry geometry = support::Geometry(1, 3, 1, 0);
  geometry.transposed = true;
  geometry.dilation[0] = int64_t{1} << 28;
  const auto made = support::Sparse(*pool, FullLine(kSize), support::Axes({kSize}), geometry);
  CHECK_EQ(made.out_coords.rows(), int64_t{3 * kSize});
  CHECK_EQ(made.out_coords.values.back(), (1 << 29) + kSize - 1);
}
