// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#include <limits>
#include <vector>

#include "check.h"
#include "element_support.h"
#include "rulebook/rows.h"

using rulebook::CudaContext;
using rulebook::ReduceMode;
using support::DeviceArray;
using support::kCpu;
using support::kCuda;

namespace {

constexpr ReduceMode kModes[] = {ReduceMode::kSum, ReduceMode::kMean, ReduceMode::kMax,
                                 ReduceMode::kFirst};

// Values in [-1, bound), some of them -1.
std::vector<int32_t> RandomRows(int64_t count, int64_t bound, uint64_t seed) {
  support::Random random(seed);
  std::vector<int32_t> rows(static_cast<size_t>(count));
  for (int32_t& row : rows) row = static_cast<int32_t>(random.Below(bound + 1) - 1);
  return rows;
}

template <typename T>
void CheckGather(int64_t inputs, int64_t channels, int64_t outputs, const std::vector<T>& x,
                 T fill) {
  const std::vector<int32_t> row = RandomRows(outputs, inputs, 3);
  std::vector<T> expected;
  for (const int32_t source : row) {
    for (int64_t c = 0; c < channels; ++c) {
      expected.push_back(source < 0 ? fill : x[static_cast<size_t>(source * channels + c)]);
    }
  }
  support::OnDevices([&](CudaContext& context) {
    const DeviceArray<T> input(context, x);
    const DeviceArray<int32_t> rows(context, row);
    const DeviceArray<T> out(context, outputs * channels);
    rulebook::GatherRows<kCuda, T>(context, input.get(), inputs, channels, rows.get(), outputs,
                                   fill, out.get());
    CHECK(support::SameBytes(out.Read(), expected));
  });
}

template <typename T>
std::vector<T> ReduceOnDevice(CudaContext& context, const std::vector<T>& x, int64_t channels,
                              const std::vector<int32_t>& row, int64_t outputs, ReduceMode mode) {
  const DeviceArray<T> input(context, x);
  const DeviceArray<int32_t> rows(context, row);
  const DeviceArray<T> out(context, outputs * channels);
  rulebook::ReduceRows<kCuda, T>(context, input.get(), static_cast<int64_t>(row.size()), channels,
                                 rows.get(), outputs, mode, out.get());
  return out.Read();
}

template <typename T>
void CheckReduce(const std::vector<T>& x, int64_t channels, const std::vector<int32_t>& row,
                 int64_t outputs, ReduceMode mode) {
  const auto pool = rulebook::MakeThreadPool(1);
  const std::vector<float> wide = support::WidenAll(x);
  std::vector<float> reduced(static_cast<size_t>(outputs * channels));
  rulebook::ReduceRows<kCpu, float>(*pool, wide.data(), static_cast<int64_t>(row.size()), channels,
                                    row.data(), outputs, mode, reduced.data());
  const std::vector<T> expected = support::RoundAll<T>(reduced);
  support::OnDevices([&](CudaContext& context) {
    CHECK(support::SameBytes(ReduceOnDevice(context, x, channels, row, outputs, mode), expected));
  });
}

template <typename T>
void CheckReduce(int64_t inputs, int64_t channels, int64_t outputs, ReduceMode mode) {
  CheckReduce(support::RandomElements<T>(inputs * channels, 4), channels,
              RandomRows(inputs, outputs, 5), outputs, mode);
}

}  // namespace

TEST(GathersRows) {
  for (const int64_t outputs : support::kRowCounts) {
    for (const int64_t channels : support::kChannelCounts) {
      const int64_t inputs = outputs / 2 + 1;
      const auto x = support::RandomElements<float>(inputs * channels, 1);
      CheckGather<float>(inputs, channels, outputs, x, -7.5F);
    }
  }
  CheckGather<float>(0, 5, 19, {}, 0.5F);
  CheckGather<float>(3, 0, 19, {}, 0.5F);
}

TEST(GathersRowsOfEveryType) {
  for (const int64_t channels : support::kChannelCounts) {
    const int64_t inputs = 300;
    support::ForElements([&](auto zero) {
      using T = decltype(zero);
      const auto x = support::RandomElements<T>(inputs * channels, 1);
      CheckGather<T>(inputs, channels, 500, x, support::Rounded<T>(0.25F));
    });
    std::vector<int32_t> labels;
    std::vector<int64_t> wide;
    for (int64_t i = 0; i < inputs * channels; ++i) {
      labels.push_back(static_cast<int32_t>(i * 7));
      wide.push_back(i << 40U);
    }
    CheckGather<int32_t>(inputs, channels, 500, labels, -1);
    CheckGather<int64_t>(inputs, channels, 500, wide, -(int64_t{1} << 50U));
  }
}

// Nothing is read back, so nothing can be said of such rows; memory beside the input is safe.
TEST(RowsOutOfRangeAreNotRead) {
  const std::vector<float> x = {1, 2};
  const std::vector<int32_t> row = {2, -2, 1, INT32_MAX, INT32_MIN};
  support::OnDevices([&](CudaContext& context) {
    const DeviceArray<float> input(context, x);
    const DeviceArray<int32_t> rows(context, row);
    const DeviceArray<float> out(context, 5);
    rulebook::GatherRows<kCuda, float>(context, input.get(), 2, 1, rows.get(), 5, 9.0F, out.get());
    CHECK(out.Read() == (std::vector<float>{9, 9, 2, 9, 9}));
    CHECK(ReduceOnDevice<float>(context, {1, 2, 3, 4, 5}, 1, row, 2, ReduceMode::kSum) ==
          (std::vector<float>{0, 3}));
  });
}

TEST(ReducesLikeTheCpu) {
  size_t next = 0;
  for (const int64_t inputs : support::kRowCounts) {
    for (const int64_t channels : support::kChannelCounts) {
      CheckReduce<float>(inputs, channels, inputs / 4 + 1, kModes[next++ % 4]);
    }
  }
}

TEST(ReducesEveryModeAndType) {
  for (const ReduceMode mode : kModes) {
    for (const int64_t channels : {5, 64}) {
      support::ForElements([&](auto zero) {
        CheckReduce<decltype(zero)>(600, channels, 90, mode);
        CheckReduce<decltype(zero)>(19, channels, 200, mode);
        CheckReduce<decltype(zero)>(0, channels, 7, mode);
        CheckReduce<decltype(zero)>(7, channels, 0, mode);
      });
    }
    CheckReduce<float>(7, 0, 3, mode);
  }
}

// One group of many rows: any other order of summation has other bits.
TEST(ALongGroupIsAddedInOrder) {
  CheckReduce<float>(3000, 3, 1, ReduceMode::kSum);
  CheckReduce<rulebook::Float16>(3000, 3, 1, ReduceMode::kMean);
}

TEST(OnlyNansOfOtherBitsAreTheSameBytes) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  CHECK(support::SameBytes<float>({1, nan}, {1, -nan}));
  CHECK(support::SameBytes<rulebook::Float16>({{0x7FFF}}, {{0xFE00}}));
  CHECK(support::SameBytes<rulebook::BFloat16>({{0x7FFF}}, {{0x7FC0}}));
  CHECK(!support::SameBytes<float>({1, nan}, {1, 1}));
  CHECK(!support::SameBytes<float>({1, 0.0F}, {1, -0.0F}));
  CHECK(!support::SameBytes<rulebook::Float16>({{0x7C00}}, {{0x7E00}}));
  CHECK(!support::SameBytes<int32_t>({1}, {1, 2}));
}

TEST(NanAndSignedZeros) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> x = {nan, 1, 2, nan, -0.0F, -0.0F, 0, -0.0F, -0.0F};
  for (const ReduceMode mode : kModes)
    CheckReduce<float>(x, 1, {0, 0, 1, 1, 2, 2, 3, 3, 4}, 6, mode);
}

TEST(RefusesWhatTheCpuRefuses) {
  support::OnDevices([](CudaContext& context) {
    const int64_t many = rulebook::kMaxSites + 1;
    CHECK_THROWS(rulebook::Error, "67108865 values are over the limit",
                 rulebook::ReduceRows<kCuda, float>(context, nullptr, many, 1, nullptr, 1,
                                                    ReduceMode::kSum, nullptr));
    CHECK_THROWS(rulebook::Error, "67108865 groups are over the limit",
                 rulebook::ReduceRows<kCuda, float>(context, nullptr, 1, 1, nullptr, many,
                                                    ReduceMode::kSum, nullptr));
  });
}
