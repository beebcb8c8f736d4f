// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "check.h"
#include "element_support.h"
#include "rulebook/union.h"

using rulebook::CudaContext;
using rulebook::UnionMode;
using support::Axes;
using support::Coords;
using support::DeviceArray;
using support::DeviceCoords;
using support::kCpu;
using support::kCuda;

namespace {

template <typename T>
struct Sparse {
  Coords coords;
  int64_t channels;
  std::vector<T> features;
};

int64_t Channels(int64_t channels_a, int64_t channels_b, UnionMode mode) {
  return mode == UnionMode::kSum ? channels_a : channels_a + channels_b;
}

Sparse<float> OnCpu(const Sparse<float>& a, const Sparse<float>& b, UnionMode mode) {
  const auto pool = rulebook::MakeThreadPool(1);
  const int64_t channels = Channels(a.channels, b.channels, mode);
  Sparse<float> result{{a.coords.axes, {}}, channels, {}};
  rulebook::SparseUnion<kCpu, float>(
      *pool, a.coords.view(), a.features.data(), a.channels, b.coords.view(), b.features.data(),
      b.channels, mode, [&](int64_t rows) {
        result.coords.values.resize(static_cast<size_t>(rows * (1 + a.coords.axes)));
        result.features.resize(static_cast<size_t>(rows * channels));
        return rulebook::UnionSites<float>{result.coords.values.data(), result.features.data()};
      });
  return result;
}

template <typename T>
Sparse<T> OnDevice(CudaContext& context, const Sparse<T>& a, const Sparse<T>& b, UnionMode mode) {
  const DeviceCoords coords_a(context, a.coords);
  const DeviceCoords coords_b(context, b.coords);
  const DeviceArray<T> features_a(context, a.features);
  const DeviceArray<T> features_b(context, b.features);
  const int64_t channels = Channels(a.channels, b.channels, mode);
  std::optional<DeviceArray<int32_t>> coords;
  std::optional<DeviceArray<T>> features;
  rulebook::SparseUnion<kCuda, T>(context, coords_a.view(), features_a.get(), a.channels,
                                  coords_b.view(), features_b.get(), b.channels, mode,
                                  [&](int64_t rows) {
                                    coords.emplace(context, rows * (1 + a.coords.axes));
                                    features.emplace(context, rows * channels);
                                    return rulebook::UnionSites<T>{coords->get(), features->get()};
                                  });
  return {{a.coords.axes, coords->Read()}, channels, features->Read()};
}

template <typename T>
void CheckUnion(const Sparse<T>& a, const Sparse<T>& b, UnionMode mode) {
  const Sparse<float> expected = OnCpu({a.coords, a.channels, support::WidenAll(a.features)},
                                       {b.coords, b.channels, support::WidenAll(b.features)}, mode);
  const std::vector<T> features = support::RoundAll<T>(expected.features);
  support::OnDevices([&](CudaContext& context) {
    const Sparse<T> found = OnDevice(context, a, b, mode);
    CHECK(found.coords == expected.coords);
    CHECK(support::SameBytes(found.features, features));
  });
}

template <typename T>
Sparse<T> WithFeatures(const Coords& coords, int64_t channels, uint64_t seed) {
  return {coords, channels, support::RandomElements<T>(coords.rows() * channels, seed)};
}

}  // namespace

TEST(UnitesLikeTheCpu) {
  size_t next = 0;
  for (const support::SiteCase& c : support::SiteCases()) {
    const Coords many = support::RandomSites(3, c.shape, 8, 40);
    const int64_t rows = std::min(many.rows(), c.coords.rows() / 2 + 5);
    const int64_t channels = support::kChannelCounts[next % support::kChannelCounts.size()];
    const auto a = WithFeatures<float>(c.coords, channels, 41);
    const auto b = WithFeatures<float>(support::Thinned(many, rows), channels, 42);
    if (next++ % 2 == 0) {
      CheckUnion(a, b, UnionMode::kSum);
    } else {
      CheckUnion(b, a, UnionMode::kSum);
    }
    CheckUnion(a, WithFeatures<float>(b.coords, 3, 43), UnionMode::kConcat);
  }
}

TEST(UnitesEveryModeAndType) {
  const auto shape = Axes({6, 7, 8});
  const Coords some = support::RandomSites(3, shape, 4, 44);
  const Coords others = support::RandomSites(2, shape, 3, 45);
  support::ForElements([&](auto zero) {
    using T = decltype(zero);
    for (const int64_t channels : support::kChannelCounts) {
      const auto a = WithFeatures<T>(some, channels, 46);
      CheckUnion(a, WithFeatures<T>(others, channels, 47), UnionMode::kSum);
      CheckUnion(a, WithFeatures<T>(others, 2, 48), UnionMode::kConcat);
    }
  });
}

TEST(OneSideIsEmptyOrTheSame) {
  const Coords some = support::RandomSites(3, Axes({30, 9}), 4, 44);
  for (const UnionMode mode : {UnionMode::kSum, UnionMode::kConcat}) {
    const auto a = WithFeatures<float>(some, 3, 46);
    const auto empty = WithFeatures<float>({2, {}}, 3, 46);
    CheckUnion(a, empty, mode);
    CheckUnion(empty, a, mode);
    CheckUnion(empty, empty, mode);
    CheckUnion(a, WithFeatures<float>(some, 3, 47), mode);
    CheckUnion(WithFeatures<float>(some, 0, 1), WithFeatures<float>(some, 0, 1), mode);
  }
  CheckUnion(WithFeatures<float>(some, 0, 1), WithFeatures<float>(some, 3, 2), UnionMode::kConcat);
}

// A zero that only one side has keeps its sign.
TEST(SignedZerosOfUnions) {
  auto a = WithFeatures<float>({1, {0, 1, 0, 2}}, 1, 1);
  auto b = WithFeatures<float>({1, {0, 2, 0, 3}}, 1, 1);
  a.features = b.features = {-0.0F, -0.0F};
  CheckUnion(a, b, UnionMode::kSum);
  CheckUnion(a, b, UnionMode::kConcat);
}

TEST(SitesOfNoGrid) {
  const auto a = WithFeatures<float>({1, {-5, 7, -5, 9, 3, -2147483647, 3, 4}}, 2, 1);
  const auto b = WithFeatures<float>({1, {-5, 8, -5, 9, 3, -2147483646}}, 2, 2);
  CheckUnion(a, b, UnionMode::kSum);
}

// Both devices refuse the sites with the same words.
TEST(SitesThatAreNotCanonical) {
  const auto check = [](const Sparse<float>& a, const Sparse<float>& b) {
    std::string expected;
    try {
      OnCpu(a, b, UnionMode::kSum);
    } catch (const rulebook::Error& error) {
      expected = error.what();
    }
    CHECK(!expected.empty());
    support::OnDevices([&](CudaContext& context) {
      std::string message;
      try {
        OnDevice(context, a, b, UnionMode::kSum);
      } catch (const rulebook::Error& error) {
        message = error.what();
      }
      CHECK_EQ(message, expected);
    });
  };
  const auto good = WithFeatures<float>({1, {0, 1, 0, 2, 1, 0}}, 1, 1);
  const auto unsorted = WithFeatures<float>({1, {0, 1, 1, 2, 0, 5, 0, 4}}, 1, 1);
  const auto twice = WithFeatures<float>({1, {0, 1, 0, 2, 0, 2}}, 1, 1);
  check(good, unsorted);
  check(unsorted, good);
  check(twice, unsorted);
  check(good, twice);
  check(good, WithFeatures<float>({1, {0, 1}}, 2, 1));
  check(good, WithFeatures<float>({2, {0, 1, 1}}, 1, 1));
}
