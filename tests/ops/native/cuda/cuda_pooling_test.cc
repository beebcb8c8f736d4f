// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#include <limits>
#include <vector>

#include "check.h"
#include "element_support.h"
#include "rulebook/pooling.h"

using rulebook::CudaContext;
using rulebook::PoolMode;
using support::Coords;
using support::DeviceArray;
using support::DeviceCoords;
using support::kCpu;
using support::kCuda;

namespace {

constexpr PoolMode kModes[] = {PoolMode::kMax, PoolMode::kAvg, PoolMode::kSum};

// [volume, outputs], two thirds of them -1.
std::vector<int32_t> RandomNeighbors(int64_t volume, int64_t inputs, int64_t outputs) {
  support::Random random(8);
  std::vector<int32_t> neighbors(static_cast<size_t>(volume * outputs), -1);
  for (int32_t& i : neighbors) {
    if (inputs > 0 && random.Below(3) == 0) i = static_cast<int32_t>(random.Below(inputs));
  }
  return neighbors;
}

template <typename T>
std::vector<T> PoolOnDevice(CudaContext& context, const std::vector<T>& x, int64_t inputs,
                            int64_t channels, const std::vector<int32_t>& neighbors, int64_t volume,
                            int64_t outputs, PoolMode mode) {
  const DeviceArray<T> features(context, x);
  const DeviceArray<int32_t> rulebook(context, neighbors);
  const DeviceArray<T> out(context, outputs * channels);
  rulebook::SparsePool<kCuda, T>(context, features.get(), inputs, channels, rulebook.get(), volume,
                                 outputs, mode, out.get());
  return out.Read();
}

template <typename T>
void CheckPool(const std::vector<T>& x, int64_t inputs, int64_t channels,
               const std::vector<int32_t>& neighbors, int64_t volume, int64_t outputs,
               PoolMode mode) {
  const auto pool = rulebook::MakeThreadPool(1);
  const std::vector<float> wide = support::WidenAll(x);
  std::vector<float> pooled(static_cast<size_t>(outputs * channels));
  rulebook::SparsePool<kCpu, float>(*pool, wide.data(), inputs, channels, neighbors.data(), volume,
                                    outputs, mode, pooled.data());
  const std::vector<T> expected = support::RoundAll<T>(pooled);
  support::OnDevices([&](CudaContext& context) {
    CHECK(support::SameBytes(
        PoolOnDevice(context, x, inputs, channels, neighbors, volume, outputs, mode), expected));
  });
}

template <typename T>
void CheckPool(int64_t inputs, int64_t channels, int64_t volume, int64_t outputs, PoolMode mode) {
  CheckPool(support::RandomElements<T>(inputs * channels, 9), inputs, channels,
            RandomNeighbors(volume, inputs, outputs), volume, outputs, mode);
}

// Batch indices 0 … frames - 1 over `rows` rows, every third frame empty; sites are of no concern.
Coords Frames(int64_t rows, int64_t frames, int axes) {
  Coords coords{axes, {}};
  for (int64_t i = 0; i < rows; ++i) {
    const int64_t frame = i * frames / rows;
    coords.values.push_back(static_cast<int32_t>(frame % 3 == 1 ? frame - 1 : frame));
    for (int axis = 0; axis < axes; ++axis) {
      coords.values.push_back(axis == axes - 1 ? static_cast<int32_t>(i) : 0);
    }
  }
  return coords;
}

template <typename T>
std::vector<T> PoolFramesOnDevice(CudaContext& context, const std::vector<T>& x, int64_t channels,
                                  const Coords& coords, int64_t batch_size, PoolMode mode) {
  const DeviceArray<T> features(context, x);
  const DeviceCoords sites(context, coords);
  const DeviceArray<T> out(context, batch_size * channels);
  rulebook::SparseGlobalPool<kCuda, T>(context, features.get(), channels, sites.view(), batch_size,
                                       mode, out.get());
  return out.Read();
}

template <typename T>
void CheckFrames(const std::vector<T>& x, int64_t channels, const Coords& coords,
                 int64_t batch_size, PoolMode mode) {
  const auto pool = rulebook::MakeThreadPool(1);
  const std::vector<float> wide = support::WidenAll(x);
  std::vector<float> pooled(static_cast<size_t>(batch_size * channels));
  rulebook::SparseGlobalPool<kCpu, float>(*pool, wide.data(), channels, coords.view(), batch_size,
                                          mode, pooled.data());
  const std::vector<T> expected = support::RoundAll<T>(pooled);
  support::OnDevices([&](CudaContext& context) {
    CHECK(support::SameBytes(PoolFramesOnDevice(context, x, channels, coords, batch_size, mode),
                             expected));
  });
}

template <typename T>
void CheckFrames(int64_t rows, int64_t channels, int64_t frames, int axes, PoolMode mode) {
  // Two frames more than there are rows of: they are empty.
  CheckFrames(support::RandomElements<T>(rows * channels, 10), channels, Frames(rows, frames, axes),
              frames + 2, mode);
}

}  // namespace

TEST(PoolsLikeTheCpu) {
  size_t next = 0;
  for (const int64_t outputs : support::kRowCounts) {
    for (const int64_t channels : support::kChannelCounts) {
      CheckPool<float>(outputs * 2, channels, 27, outputs, kModes[next++ % 3]);
    }
  }
}

TEST(PoolsEveryModeAndType) {
  for (const PoolMode mode : kModes) {
    for (const int64_t channels : {5, 64}) {
      support::ForElements([&](auto zero) {
        CheckPool<decltype(zero)>(150, channels, 8, 300, mode);
        CheckPool<decltype(zero)>(0, channels, 8, 19, mode);
      });
    }
    CheckPool<float>(7, 0, 3, 9, mode);
    CheckPool<float>(7, 3, 0, 9, mode);
  }
}

TEST(NanAndSignedZerosOfPools) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> x = {nan, 1, -0.0F, 0};
  // [2, 5]
  const std::vector<int32_t> neighbors = {0, 1, 2, 3, -1, 1, 0, 2, 2, -1};
  for (const PoolMode mode : kModes) CheckPool<float>(x, 4, 1, neighbors, 2, 5, mode);
}

// Nothing is read back, so nothing can be said of such neighbors; memory beside the input is safe.
TEST(NeighborsOutOfRangeAreNotRead) {
  const std::vector<int32_t> neighbors = {2, -2, 1, INT32_MAX, INT32_MIN};
  support::OnDevices([&](CudaContext& context) {
    CHECK(PoolOnDevice<float>(context, {1, 2}, 2, 1, neighbors, 1, 5, PoolMode::kSum) ==
          (std::vector<float>{0, 0, 2, 0, 0}));
  });
}

TEST(PoolsFramesLikeTheCpu) {
  size_t next = 0;
  for (const int64_t rows : support::kRowCounts) {
    for (const int64_t channels : support::kChannelCounts) {
      const int axes = static_cast<int>(1 + next % 4);
      CheckFrames<float>(rows, channels, 4, axes, kModes[next++ % 3]);
    }
  }
}

TEST(PoolsFramesOfEveryModeAndType) {
  for (const PoolMode mode : kModes) {
    support::ForElements([&](auto zero) {
      CheckFrames<decltype(zero)>(200, 40, 1, 3, mode);
      CheckFrames<decltype(zero)>(64, 5, 1, 3, mode);
      CheckFrames<decltype(zero)>(65, 3, 7, 2, mode);
    });
    CheckFrames<float>(9, 0, 2, 1, mode);
  }
  CheckFrames<float>({}, 3, {3, {}}, 0, PoolMode::kMax);
}

TEST(NanAndSignedZerosOfFrames) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const Coords coords{1, {0, 1, 0, 2, 1, 1, 1, 2, 2, 0, 3, 0, 3, 1}};
  for (const PoolMode mode : kModes) {
    CheckFrames<float>({nan, 1, 2, nan, -0.0F, -0.0F, -0.0F}, 1, coords, 4, mode);
  }
}

TEST(FramesOutOfOrder) {
  const Coords coords{1, {5, 0, -3, 0, 1, 0, 0, 0, 70000, 0}};
  support::OnDevices([&](CudaContext& context) {
    const auto out =
        PoolFramesOnDevice<float>(context, {1, 1, 1, 1, 1}, 1, coords, 3, PoolMode::kSum);
    for (const float value : out) CHECK(value >= 0 && value <= 5);
  });
}

TEST(RefusesWhatTheCpuRefuses) {
  support::OnDevices([](CudaContext& context) {
    CHECK_THROWS(rulebook::Error, "neighbors: 27 x 1073741824 is over the limit",
                 rulebook::SparsePool<kCuda, float>(context, nullptr, 1, 1, nullptr, 27,
                                                    int64_t{1} << 30, PoolMode::kMax, nullptr));
    CHECK_THROWS(rulebook::Error, "batch_size: -1 is not in [0, 65536]",
                 rulebook::SparseGlobalPool<kCuda, float>(context, nullptr, 1, {nullptr, 0, 3}, -1,
                                                          PoolMode::kMax, nullptr));
  });
}
