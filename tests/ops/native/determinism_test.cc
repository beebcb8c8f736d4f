// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// The same bytes for any number of threads, and for a frame alone or inside a batch.
#include <cstring>
#include <vector>

#include "check.h"
#include "support.h"

using support::kCpu;

namespace {

bool SameBytes(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

}  // namespace

TEST(ThreadCountChangesNothing) {
  const auto shape = support::Axes({12, 40, 40});
  const auto coords = support::RandomSites(2, shape, 7, 21);
  const int64_t rows = coords.rows();
  for (const int64_t channels : {1, 5, 16, 32, 33}) {
    const rulebook::WeightShape weight_shape{27, channels, 2 * channels, 1};
    const auto features = support::Random(4).Floats(rows * channels);
    const auto kernel = support::Random(5).Floats(27 * channels * 2 * channels);
    std::vector<float> first;
    std::vector<int32_t> first_neighbors;
    for (const int threads : {1, 2, 4}) {
      const auto pool = rulebook::MakeThreadPool(threads);
      const auto neighbors = support::Submanifold(*pool, coords, shape, support::Axes({3, 3, 3}));
      const auto weight = rulebook::PackWeight<kCpu, float>(*pool, kernel.data(), weight_shape);
      const auto out =
          support::Convolve(*pool, features, rows, neighbors, rows, weight_shape, *weight);
      if (threads == 1) {
        first = out;
        first_neighbors = neighbors;
      }
      CHECK(neighbors == first_neighbors);
      CHECK(SameBytes(out, first));
    }
  }
}

TEST(AFrameInABatchGivesTheBytesItGivesAlone) {
  const auto pool = rulebook::MakeThreadPool(2);
  const auto shape = support::Axes({10, 20, 20});
  const int64_t channels = 32;
  const rulebook::WeightShape weight_shape{27, channels, 64, 1};
  const auto kernel = support::Random(6).Floats(27 * channels * 64);
  const auto weight = rulebook::PackWeight<kCpu, float>(*pool, kernel.data(), weight_shape);
  const auto batch = support::RandomSites(3, shape, 5, 31);
  const auto features = support::Random(7).Floats(batch.rows() * channels);
  const auto geometry = support::Geometry(3, 3, 2, 1);

  const auto run = [&](const support::Coords& coords, const std::vector<float>& rows) {
    const auto rulebook = support::Sparse(*pool, coords, shape, geometry);
    return support::Convolve(*pool, rows, coords.rows(), rulebook.neighbors,
                             rulebook.out_coords.rows(), weight_shape, *weight);
  };
  std::vector<float> joined;
  for (int32_t frame = 0; frame < 3; ++frame) {
    support::Coords alone{3, {}};
    std::vector<float> rows;
    for (int64_t i = 0; i < batch.rows(); ++i) {
      const int32_t* site = batch.view().row(i);
      if (site[0] != frame) continue;
      alone.values.insert(alone.values.end(), {0, site[1], site[2], site[3]});
      rows.insert(rows.end(), features.begin() + i * channels,
                  features.begin() + (i + 1) * channels);
    }
    const auto out = run(alone, rows);
    joined.insert(joined.end(), out.begin(), out.end());
  }
  CHECK(SameBytes(run(batch, features), joined));
}
