// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#include "rulebook/rulebook.h"

#include <vector>

#include "check.h"
#include "support.h"

using support::Axes;
using support::Coords;

namespace {

// A 5 x 5 image with active pixels P1 at (1, 2) and P2 at (2, 3), as in the usual tutorials.
const Coords kPixels{2, {0, 1, 2, 0, 2, 3}};
const rulebook::SpatialShape kImage = Axes({5, 5});

}  // namespace

TEST(WorkedExampleSubmanifold) {
  const auto pool = rulebook::MakeThreadPool(1);
  const auto neighbors = support::Submanifold(*pool, kPixels, kImage, Axes({3, 3}));
  // P1 sees P2 one row down and one column right, offset 8; P2 sees P1 at offset 0.
  const std::vector<int32_t> expected = {-1, 0,  -1, -1, -1, -1, -1, -1, 0,
                                         1,  -1, -1, -1, -1, -1, -1, 1,  -1};
  CHECK(neighbors == expected);
}

TEST(WorkedExampleRegular) {
  const auto pool = rulebook::MakeThreadPool(1);
  const auto result = support::Sparse(*pool, kPixels, kImage, support::Geometry(2, 3, 1, 0));
  // Output (y, x) covers input rows y … y+2 and columns x … x+2 of a 3 x 3 output.
  const std::vector<int32_t> sites = {0, 0, 0, 0, 0, 1, 0, 0, 2, 0, 1, 0,
                                      0, 1, 1, 0, 1, 2, 0, 2, 1, 0, 2, 2};
  CHECK(result.out_coords.values == sites);
  CHECK_EQ(result.neighbors.size(), size_t{9 * 8});
  // P1 (1, 2) is met by output (1 - i, 2 - j) through offset (i, j), P2 (2, 3) by (2 - i, 3 - j).
  const auto at = [&](int64_t offset, int64_t output) {
    return result.neighbors[static_cast<size_t>(offset * 8 + output)];
  };
  const std::vector<std::vector<int32_t>> by_hand = {
      // (0,0) (0,1) (0,2) (1,0) (1,1) (1,2) (2,1) (2,2)
      {-1, -1, -1, -1, -1, 0, -1, -1},   // offset (0,0): P1 from (1,2)
      {-1, -1, -1, -1, 0, -1, -1, 1},    // offset (0,1): P1 from (1,1), P2 from (2,2)
      {-1, -1, -1, 0, -1, -1, 1, -1},    // offset (0,2): P1 from (1,0), P2 from (2,1)
      {-1, -1, 0, -1, -1, -1, -1, -1},   // offset (1,0): P1 from (0,2)
      {-1, 0, -1, -1, -1, 1, -1, -1},    // offset (1,1): P1 from (0,1), P2 from (1,2)
      {0, -1, -1, -1, 1, -1, -1, -1},    // offset (1,2): P1 from (0,0), P2 from (1,1)
      {-1, -1, -1, -1, -1, -1, -1, -1},  // offset (2,0): none
      {-1, -1, 1, -1, -1, -1, -1, -1},   // offset (2,1): P2 from (0,2)
      {-1, 1, -1, -1, -1, -1, -1, -1},   // offset (2,2): P2 from (0,1)
  };
  for (int64_t offset = 0; offset < 9; ++offset) {
    for (int64_t output = 0; output < 8; ++output) {
      CHECK_EQ(at(offset, output),
               by_hand[static_cast<size_t>(offset)][static_cast<size_t>(output)]);
    }
  }
}

TEST(InverseSwapsTheRoles) {
  const auto pool = rulebook::MakeThreadPool(2);
  const auto shape = Axes({9, 8, 7});
  const Coords coords = support::RandomSites(2, shape, 5, 3);
  const auto down = support::Sparse(*pool, coords, shape, support::Geometry(3, 3, 2, 1));
  const int64_t inputs = coords.rows();
  const int64_t outputs = down.out_coords.rows();
  std::vector<int32_t> inverse(static_cast<size_t>(27 * inputs));
  rulebook::InverseRulebook<support::kCpu>(*pool, down.neighbors.data(), 27, outputs, inputs,
                                           inverse.data());
  int64_t pairs = 0;
  for (int64_t k = 0; k < 27; ++k) {
    for (int64_t o = 0; o < outputs; ++o) {
      const int32_t i = down.neighbors[static_cast<size_t>(k * outputs + o)];
      if (i < 0) continue;
      ++pairs;
      CHECK_EQ(inverse[static_cast<size_t>(k * inputs + i)], static_cast<int32_t>(o));
    }
  }
  int64_t inverse_pairs = 0;
  for (const int32_t row : inverse) inverse_pairs += row >= 0 ? 1 : 0;
  CHECK(pairs > 0);
  CHECK_EQ(inverse_pairs, pairs);
}

TEST(GeneratedSitesAreCanonical) {
  const auto pool = rulebook::MakeThreadPool(2);
  const auto shape = Axes({6, 7, 8});
  const Coords coords = support::RandomSites(3, shape, 6, 11);
  for (const bool transposed : {false, true}) {
    rulebook::ConvGeometry geometry = support::Geometry(3, 3, 2, 1);
    geometry.transposed = transposed;
    const auto result = support::Sparse(*pool, coords, shape, geometry);
    CHECK(result.out_coords.rows() > 0);
    rulebook::CheckCanonical<support::kCpu>(*pool, result.out_coords.view(),
                                            geometry.OutputShape(shape));
  }
}

TEST(NoSitesGiveNoSites) {
  const auto pool = rulebook::MakeThreadPool(2);
  const Coords none{3, {}};
  const auto shape = Axes({5, 5, 5});
  CHECK(support::Submanifold(*pool, none, shape, Axes({3, 3, 3})).empty());
  CHECK_EQ(support::Sparse(*pool, none, shape, support::Geometry(3, 3, 2, 1)).out_coords.rows(), 0);
}
