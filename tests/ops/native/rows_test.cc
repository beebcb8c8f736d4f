// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// Operators that move, reduce and merge rows: by hand where a hand suffices, else there and back.
#include "rulebook/rows.h"

#include <cmath>
#include <limits>
#include <vector>

#include "check.h"
#include "rulebook/dense.h"
#include "rulebook/error.h"
#include "rulebook/pooling.h"
#include "rulebook/union.h"
#include "support.h"

using rulebook::PoolMode;
using rulebook::ReduceMode;
using rulebook::UnionMode;
using support::Axes;
using support::Coords;
using support::kCpu;
using Values = std::vector<float>;

namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

Values Reduce(rulebook::CpuContext& context, const Values& x, const std::vector<int32_t>& row,
              int64_t outputs, ReduceMode mode) {
  const auto inputs = static_cast<int64_t>(row.size());
  const int64_t channels = inputs == 0 ? 2 : static_cast<int64_t>(x.size()) / inputs;
  Values out(static_cast<size_t>(outputs * channels), 77.0F);
  rulebook::ReduceRows<kCpu, float>(context, x.data(), inputs, channels, row.data(), outputs, mode,
                                    out.data());
  return out;
}

struct Sparse {
  Coords coords;
  Values features;
};

Sparse FromDense(rulebook::CpuContext& context, const Values& dense, int64_t batch_size,
                 int64_t channels, const rulebook::SpatialShape& shape, float threshold) {
  Sparse result;
  result.coords.axes = shape.axes;
  rulebook::DenseToSparse<kCpu, float>(
      context, dense.data(), batch_size, channels, shape, threshold, [&](int64_t rows) {
        result.coords.values.resize(static_cast<size_t>(rows * (1 + shape.axes)));
        result.features.resize(static_cast<size_t>(rows * channels));
        return rulebook::DenseSites<float>{result.coords.values.data(), result.features.data()};
      });
  return result;
}

Values ToDense(rulebook::CpuContext& context, const Sparse& sparse, int64_t batch_size,
               int64_t channels, const rulebook::SpatialShape& shape) {
  const int64_t elements = rulebook::DenseElements(batch_size, channels, shape);
  Values out(static_cast<size_t>(elements), 77.0F);
  rulebook::SparseToDense<kCpu, float>(context, sparse.coords.view(), sparse.features.data(),
                                       channels, batch_size, shape, out.data());
  return out;
}

Sparse Union(rulebook::CpuContext& context, const Sparse& a, int64_t channels_a, const Sparse& b,
             int64_t channels_b, UnionMode mode) {
  Sparse result;
  result.coords.axes = a.coords.axes;
  const int64_t channels = mode == UnionMode::kSum ? channels_a : channels_a + channels_b;
  rulebook::SparseUnion<kCpu, float>(
      context, a.coords.view(), a.features.data(), channels_a, b.coords.view(), b.features.data(),
      channels_b, mode, [&](int64_t rows) {
        result.coords.values.resize(static_cast<size_t>(rows * (1 + a.coords.axes)));
        result.features.resize(static_cast<size_t>(rows * channels));
        return rulebook::UnionSites<float>{result.coords.values.data(), result.features.data()};
      });
  return result;
}

}  // namespace

TEST(EveryReductionOfRowsByHand) {
  const auto pool = rulebook::MakeThreadPool(2);
  const Values x = {1, 10, 2, 20, 3, 30, 4, 40, 5, -50};
  const std::vector<int32_t> row = {2, -1, 0, 2, 2};
  CHECK(Reduce(*pool, x, row, 4, ReduceMode::kSum) == (Values{3, 30, 0, 0, 10, 0, 0, 0}));
  CHECK(Reduce(*pool, x, row, 4, ReduceMode::kMax) == (Values{3, 30, 0, 0, 5, 40, 0, 0}));
  CHECK(Reduce(*pool, x, row, 4, ReduceMode::kFirst) == (Values{3, 30, 0, 0, 1, 10, 0, 0}));
  CHECK(Reduce(*pool, {1, 2, 6}, {1, 1, 1}, 2, ReduceMode::kMean) == (Values{0, 3}));
  CHECK(Reduce(*pool, {}, {}, 2, ReduceMode::kSum) == (Values{0, 0, 0, 0}));
  CHECK_THROWS(rulebook::Error, "row[1] is 2", Reduce(*pool, {1, 2}, {0, 2}, 2, ReduceMode::kSum));
}

TEST(NanWinsEveryMaximum) {
  const auto pool = rulebook::MakeThreadPool(1);
  for (const Values& x : {Values{kNan, 1}, Values{1, kNan}}) {
    CHECK(std::isnan(Reduce(*pool, x, {0, 0}, 1, ReduceMode::kMax)[0]));
  }
}

TEST(RowsOfEveryTypeAreGathered) {
  const auto pool = rulebook::MakeThreadPool(2);
  const std::vector<int32_t> row = {1, -1, 0, 1};
  const std::vector<int64_t> x = {int64_t{1} << 40, 2, 3, -(int64_t{1} << 41)};
  std::vector<int64_t> out(8);
  rulebook::GatherRows<kCpu, int64_t>(*pool, x.data(), 2, 2, row.data(), 4, -9, out.data());
  CHECK(out == (std::vector<int64_t>{3, x[3], -9, -9, x[0], 2, 3, x[3]}));
  const std::vector<int32_t> labels = {7, 8};
  std::vector<int32_t> found(4);
  rulebook::GatherRows<kCpu, int32_t>(*pool, labels.data(), 2, 1, row.data(), 4, -1, found.data());
  CHECK(found == (std::vector<int32_t>{8, -1, 7, 8}));
}

TEST(PoolingByHand) {
  const auto pool = rulebook::MakeThreadPool(2);
  const Values features = {-1, -5, -2};
  const std::vector<int32_t> neighbors = {0, -1, 2, 1, -1, -1};  // [2, 3]
  const auto run = [&](PoolMode mode) {
    Values out(3, 77.0F);
    rulebook::SparsePool<kCpu, float>(*pool, features.data(), 3, 1, neighbors.data(), 2, 3, mode,
                                      out.data());
    return out;
  };
  CHECK(run(PoolMode::kMax) == (Values{-1, 0, -2}));
  CHECK(run(PoolMode::kAvg) == (Values{-3, 0, -2}));
  CHECK(run(PoolMode::kSum) == (Values{-6, 0, -2}));
}

TEST(GlobalPoolingGivesEmptyFramesZero) {
  const auto pool = rulebook::MakeThreadPool(2);
  const Coords coords{1, {1, 0, 1, 5, 3, 2}};
  const Values features = {-1, -5, 4};
  const auto run = [&](PoolMode mode) {
    Values out(5, 77.0F);
    rulebook::SparseGlobalPool<kCpu, float>(*pool, features.data(), 1, coords.view(), 5, mode,
                                            out.data());
    return out;
  };
  CHECK(run(PoolMode::kMax) == (Values{0, -1, 0, 4, 0}));
  CHECK(run(PoolMode::kAvg) == (Values{0, -3, 0, 4, 0}));
  CHECK(run(PoolMode::kSum) == (Values{0, -6, 0, 4, 0}));
}

TEST(DenseAndBackIsTheSame) {
  for (const auto& shape : {Axes({5000}), Axes({70, 60}), Axes({3, 41, 50}), Axes({4, 5, 6, 7})}) {
    for (const int64_t channels : {1, 3, 17, 40}) {
      for (const int64_t sparsity : {1, 9, 1000000}) {
        Sparse sparse{support::RandomSites(2, shape, sparsity, 5), {}};
        sparse.features = support::Random(6).Floats(sparse.coords.rows() * channels);
        for (float& value : sparse.features) value += value < 0.0F ? -0.5F : 0.5F;
        for (const int threads : {1, 3}) {
          const auto pool = rulebook::MakeThreadPool(threads);
          const auto dense = ToDense(*pool, sparse, 2, channels, shape);
          const auto back = FromDense(*pool, dense, 2, channels, shape, 0.25F);
          CHECK(back.coords == sparse.coords);
          CHECK(back.features == sparse.features);
        }
      }
    }
  }
}

TEST(TheLastOfEqualSitesIsTheDenseOne) {
  const auto pool = rulebook::MakeThreadPool(2);
  const Sparse sparse{Coords{1, {0, 3, 0, 1, 0, 3}}, {1, 2, 3}};
  CHECK(ToDense(*pool, sparse, 1, 1, Axes({4})) == (Values{0, 2, 0, 3}));
}

TEST(ACellIsActiveAboveTheThresholdOrAsNan) {
  const auto pool = rulebook::MakeThreadPool(1);
  const auto sparse = FromDense(*pool, {0.5F, -0.75F, 0.25F, kNan}, 1, 1, Axes({2, 2}), 0.5F);
  CHECK(sparse.coords.values == (std::vector<int32_t>{0, 0, 1, 0, 1, 1}));
  CHECK(std::isnan(sparse.features[1]));
}

TEST(UnionIsWhatTheDenseTensorsAddUpTo) {
  const auto shape = Axes({20, 50, 60});
  for (const int64_t sparsity : {2, 40, 1000000}) {
    Sparse a{support::RandomSites(2, shape, 5, 50), {}};
    Sparse b{support::RandomSites(2, shape, sparsity, 51), {}};
    a.features = support::Random(52).Floats(a.coords.rows() * 3);
    b.features = support::Random(53).Floats(b.coords.rows() * 3);
    for (const int threads : {1, 3}) {
      const auto pool = rulebook::MakeThreadPool(threads);
      auto expected = ToDense(*pool, a, 2, 3, shape);
      const auto dense_b = ToDense(*pool, b, 2, 3, shape);
      for (size_t i = 0; i < expected.size(); ++i) expected[i] += dense_b[i];
      const auto sum = Union(*pool, a, 3, b, 3, UnionMode::kSum);
      rulebook::CheckCanonical<kCpu>(*pool, sum.coords.view(), shape);
      CHECK(ToDense(*pool, sum, 2, 3, shape) == expected);
    }
  }
}

TEST(ConcatPutsZerosForTheMissingSide) {
  const auto pool = rulebook::MakeThreadPool(1);
  const Sparse a{Coords{1, {0, 1, 0, 3}}, {1, 2}};
  const Sparse b{Coords{1, {0, 0, 0, 3}}, {5, 6, 7, 8}};
  const auto both = Union(*pool, a, 1, b, 2, UnionMode::kConcat);
  CHECK(both.coords.values == (std::vector<int32_t>{0, 0, 0, 1, 0, 3}));
  CHECK(both.features == (Values{0, 5, 6, 1, 0, 0, 2, 7, 8}));
  CHECK_THROWS(rulebook::Error, "2 channels", Union(*pool, a, 1, b, 2, UnionMode::kSum));
}
