// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// The operator library's CUDA half inside ONNX Runtime, on the emulator: right answers, frames of
// any size, threads, errors, and, under AddressSanitizer, memory.
#include <onnxruntime_cxx_api.h>

#include <algorithm>
#include <cmath>
#include <thread>
#include <vector>

#include "check.h"
#include "session_support.h"

using support::Layer;
using support::MakeFeeds;
using support::Tensor;

namespace {

Ort::Session Open(const std::string& model) { return support::Open(VOXGATE_OPERATORS, model); }

// To 1e-5 of the largest value.
bool Close(const std::vector<float>& a, const std::vector<float>& b) {
  float largest = 0;
  for (const float value : b) largest = std::max(largest, std::abs(value));
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [largest](float x, float y) { return std::abs(x - y) <= 1e-5F * largest; });
}

Layer LayerOf(int64_t sites, uint64_t seed) {
  Layer layer;
  layer.coords =
      sites == 0 ? support::Coords{3, {}} : support::RandomSites(2, layer.grid, sites, seed);
  layer.features = support::Random(seed).Floats(layer.coords.rows() * 4);
  return layer;
}

}  // namespace

TEST(FramesOfAnySizeGiveTheCpusAnswer) {
  Layer layer;
  Ort::Session session = Open(layer.Bytes());
  for (const int64_t sites : {6, 0, 1, 150, 19}) {
    Layer frame = LayerOf(sites, 3);
    CHECK(Close(frame.Run(session), frame.Expected()));
  }
}

TEST(OneSessionInFourThreadsGivesTheSameBytes) {
  Layer layer;
  Ort::Session session = Open(layer.Bytes());
  const auto expected = layer.Run(session);
  std::vector<int> equal(4);
  std::vector<std::thread> threads;
  for (int& count : equal) {
    threads.emplace_back([&session, &expected, &count] {
      Layer own;
      for (int round = 0; round < 3; ++round) count += own.Run(session) == expected ? 1 : 0;
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const int count : equal) CHECK_EQ(count, 3);
}

TEST(ARefusedFrameLeavesTheSessionWhole) {
  Layer layer;
  Ort::Session session = Open(layer.Bytes());
  const auto expected = layer.Run(session);
  std::vector<int32_t> coords = {0, 1, 2, 3};
  std::vector<float> features(5);
  CHECK_THROWS(Ort::Exception, "5",
               support::Run(session,
                            MakeFeeds(Tensor("coords", coords, {1, 4}),
                                      Tensor("features", features, {1, 5})),
                            {"out"}));
  CHECK(layer.Run(session) == expected);
}
