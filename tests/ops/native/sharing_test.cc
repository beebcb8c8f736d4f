// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// Packed weights and rulebooks are read-only once made: any number of threads may use one at once.
// Run under ThreadSanitizer, which sees a stray write even where the bytes come out right.
#include <thread>
#include <vector>

#include "check.h"
#include "support.h"

using support::kCpu;

namespace {

constexpr int kThreads = 8;
constexpr int kRounds = 3;

struct Layer {
  rulebook::SpatialShape grid = support::Axes({16, 24, 24});
  support::Coords coords = support::RandomSites(2, grid, 8, 1);
  rulebook::WeightShape shape{27, 16, 32, 1};
  std::vector<float> features = support::Random(2).Floats(coords.rows() * 16);
  std::vector<float> kernel = support::Random(3).Floats(27 * 16 * 32);
};

}  // namespace

TEST(EightThreadsShareOneWeightAndOneRulebook) {
  const Layer layer;
  const auto single = rulebook::MakeThreadPool(1);
  const auto shared = rulebook::MakeThreadPool(2);
  const auto weight = rulebook::PackWeight<kCpu, float>(*single, layer.kernel.data(), layer.shape);
  const auto neighbors =
      support::Submanifold(*single, layer.coords, layer.grid, support::Axes({3, 3, 3}));
  const int64_t rows = layer.coords.rows();
  const auto expected =
      support::Convolve(*single, layer.features, rows, neighbors, rows, layer.shape, *weight);

  std::vector<int> equal(kThreads);
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&, i] {
      // Half of them work alone, half on one pool.
      const auto own = rulebook::MakeThreadPool(1);
      rulebook::CpuContext& context = i % 2 == 0 ? *own : *shared;
      for (int round = 0; round < kRounds; ++round) {
        equal[static_cast<size_t>(i)] += support::Convolve(context, layer.features, rows, neighbors,
                                                           rows, layer.shape, *weight) == expected;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const int rounds : equal) CHECK_EQ(rounds, kRounds);
}

TEST(EightThreadsBuildTheSameRulebooks) {
  const Layer layer;
  const auto shared = rulebook::MakeThreadPool(2);
  const auto geometry = support::Geometry(3, 3, 2, 1);
  const auto expected = support::Sparse(*shared, layer.coords, layer.grid, geometry);
  std::vector<int> equal(kThreads);
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&, i] {
      const auto found = support::Sparse(*shared, layer.coords, layer.grid, geometry);
      equal[static_cast<size_t>(i)] =
          found.out_coords == expected.out_coords && found.neighbors == expected.neighbors;
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const int same : equal) CHECK_EQ(same, 1);
}
