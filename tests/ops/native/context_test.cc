// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#include "rulebook/context.h"

#include <algorithm>
#include <atomic>
#include <stdexcept>
#include <thread>
#include <vector>

#include "check.h"
#include "rulebook/error.h"

using rulebook::MakeThreadPool;

TEST(EveryTaskRunsExactlyOnce) {
  for (const int threads : {1, 2, 4}) {
    const auto pool = MakeThreadPool(threads);
    for (const int64_t tasks : {0, 1, 2, 3, 19, 989}) {
      std::vector<std::atomic<int>> runs(static_cast<size_t>(tasks));
      pool->ParallelFor(tasks, [&](int64_t task) { ++runs[static_cast<size_t>(task)]; });
      CHECK(std::all_of(runs.begin(), runs.end(), [](const auto& count) { return count == 1; }));
    }
  }
}

TEST(AnExceptionReachesTheCallerAndThePoolStaysUsable) {
  const auto pool = MakeThreadPool(2);
  CHECK_THROWS(std::runtime_error, "task 7", pool->ParallelFor(64, [](int64_t task) {
    if (task == 7) throw std::runtime_error("task 7");
  }));
  std::atomic<int64_t> sum{0};
  pool->ParallelFor(10, [&](int64_t task) { sum += task; });
  CHECK_EQ(sum.load(), 45);
}

TEST(SeveralThreadsShareOnePool) {
  const auto pool = MakeThreadPool(2);
  std::vector<int64_t> sums(8);
  std::vector<std::thread> callers;
  for (int64_t& sum : sums) {
    callers.emplace_back([&pool, &sum] {
      for (int round = 0; round < 50; ++round) {
        std::atomic<int64_t> total{0};
        pool->ParallelFor(20, [&](int64_t task) { total += task; });
        sum += total;
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  for (const int64_t sum : sums) CHECK_EQ(sum, 50 * 190);
}

TEST(APoolNeedsAThread) {
  CHECK_THROWS(rulebook::Error, "0", MakeThreadPool(0));
  CHECK_THROWS(rulebook::Error, "-3", MakeThreadPool(-3));
}
