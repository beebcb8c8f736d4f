// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// The operators' counters: nothing is lost between threads, and they may be read and added to while
// they count. Compiled in, because ONNX Runtime does not run under ThreadSanitizer.
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "../../../ops/native/onnxruntime/operator_counters.cc"
#include "check.h"

namespace {

std::vector<VoxgateOperatorTime> Times() {
  std::vector<VoxgateOperatorTime> rows(VoxgateOperatorTimes(nullptr, 0));
  rows.resize(VoxgateOperatorTimes(rows.data(), rows.size()));
  return rows;
}

voxgate::OperatorCounter& Used(const std::string& model, const char* name) {
  voxgate::OperatorCounter& counter = voxgate::CounterOf(model, name, "cpu");
  counter.has_nodes = true;
  return counter;
}

}  // namespace

TEST(EveryCallOfEightThreadsIsCountedWhileNamesAreAddedAndRead) {
  constexpr int kThreads = 8;
  constexpr int kCalls = 2000;
  voxgate::OperatorCounter& counter = Used("crowd", "SparseConv");
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&counter, i] {
      for (int call = 0; call < kCalls; ++call) {
        const voxgate::CountedCall counted(counter);
        if (call % 500 == 0) {
          Used("crowd" + std::to_string(i), "SparsePool");
          Times();
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK_EQ(counter.calls.load(), static_cast<uint64_t>(kThreads) * kCalls);
  CHECK(counter.nanoseconds.load() > 0);
}

TEST(TheSameNamesGiveTheSameCounter) {
  voxgate::OperatorCounter* counter = &voxgate::CounterOf("same", "SortSites", "cpu");
  CHECK(counter == &voxgate::CounterOf("same", "SortSites", "cpu"));
  CHECK(counter != &voxgate::CounterOf("other", "SortSites", "cpu"));
  CHECK(counter != &voxgate::CounterOf("same", "FindSites", "cpu"));
  CHECK(counter != &voxgate::CounterOf("same", "SortSites", "cuda"));
}

TEST(OperatorsWithoutNodesAreLeftOut) {
  voxgate::CounterOf("nodes", "SortSites", "cpu");
  Used("nodes", "FindSites");
  int found = 0;
  for (const VoxgateOperatorTime& row : Times()) {
    if (std::strcmp(row.model, "nodes") != 0) continue;
    ++found;
    CHECK_EQ(std::string(row.operator_name), "FindSites");
    CHECK_EQ(std::string(row.device), "cpu");
    CHECK_EQ(row.calls, uint64_t{0});
  }
  CHECK_EQ(found, 1);
}

TEST(NoMoreRowsAreWrittenThanThereIsRoomFor) {
  Used("room", "A");
  Used("room", "B");
  const size_t all = VoxgateOperatorTimes(nullptr, 0);
  VoxgateOperatorTime rows[2] = {{}, {"untouched", nullptr, nullptr, 0, 0}};
  CHECK_EQ(VoxgateOperatorTimes(rows, 1), all);
  CHECK(rows[0].model != nullptr);
  CHECK_EQ(std::string(rows[1].model), "untouched");
}
