// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#include <limits>
#include <optional>
#include <vector>

#include "check.h"
#include "element_support.h"
#include "rulebook/dense.h"

using rulebook::CudaContext;
using rulebook::SpatialShape;
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
  std::vector<T> features;
};

template <typename T>
std::vector<T> ToDenseOnDevice(CudaContext& context, const Sparse<T>& sparse, int64_t channels,
                               int64_t batch_size, const SpatialShape& shape) {
  const DeviceCoords coords(context, sparse.coords);
  const DeviceArray<T> features(context, sparse.features);
  const DeviceArray<T> out(context, rulebook::DenseElements(batch_size, channels, shape));
  rulebook::SparseToDense<kCuda, T>(context, coords.view(), features.get(), channels, batch_size,
                                    shape, out.get());
  return out.Read();
}

template <typename T>
void CheckToDense(const Sparse<T>& sparse, int64_t channels, int64_t batch_size,
                  const SpatialShape& shape) {
  const auto pool = rulebook::MakeThreadPool(1);
  const std::vector<float> features = support::WidenAll(sparse.features);
  std::vector<float> dense(
      static_cast<size_t>(rulebook::DenseElements(batch_size, channels, shape)));
  rulebook::SparseToDense<kCpu, float>(*pool, sparse.coords.view(), features.data(), channels,
                                       batch_size, shape, dense.data());
  const std::vector<T> expected = support::RoundAll<T>(dense);
  support::OnDevices([&](CudaContext& context) {
    CHECK(support::SameBytes(ToDenseOnDevice(context, sparse, channels, batch_size, shape),
                             expected));
  });
}

template <typename T>
Sparse<T> ToSparseOnDevice(CudaContext& context, const std::vector<T>& values, int64_t channels,
                           int64_t batch_size, const SpatialShape& shape, float threshold) {
  const DeviceArray<T> dense(context, values);
  std::optional<DeviceArray<int32_t>> coords;
  std::optional<DeviceArray<T>> features;
  rulebook::DenseToSparse<kCuda, T>(
      context, dense.get(), batch_size, channels, shape, threshold, [&](int64_t rows) {
        coords.emplace(context, rows * (1 + shape.axes));
        features.emplace(context, rows * channels);
        return rulebook::DenseSites<T>{coords->get(), features->get()};
      });
  return {{shape.axes, coords->Read()}, features->Read()};
}

template <typename T>
void CheckToSparse(const std::vector<T>& values, int64_t channels, int64_t batch_size,
                   const SpatialShape& shape, float threshold) {
  const auto pool = rulebook::MakeThreadPool(1);
  const std::vector<float> wide = support::WidenAll(values);
  Sparse<float> sparse{{shape.axes, {}}, {}};
  rulebook::DenseToSparse<kCpu, float>(
      *pool, wide.data(), batch_size, channels, shape, threshold, [&](int64_t rows) {
        sparse.coords.values.resize(static_cast<size_t>(rows * (1 + shape.axes)));
        sparse.features.resize(static_cast<size_t>(rows * channels));
        return rulebook::DenseSites<float>{sparse.coords.values.data(), sparse.features.data()};
      });
  const std::vector<T> expected = support::RoundAll<T>(sparse.features);
  support::OnDevices([&](CudaContext& context) {
    const Sparse<T> found =
        ToSparseOnDevice(context, values, channels, batch_size, shape, threshold);
    CHECK(found.coords == sparse.coords);
    CHECK(support::SameBytes(found.features, expected));
  });
}

// Zeros but for one value in `sparsity`.
template <typename T>
std::vector<T> RandomDense(int64_t elements, int64_t sparsity) {
  support::Random random(21);
  std::vector<T> values(static_cast<size_t>(elements), support::Rounded<T>(0.0F));
  for (T& value : values) {
    if (random.Below(sparsity) == 0) value = support::Rounded<T>(random.Float());
  }
  return values;
}

// In two frames of three: the middle one is empty.
Coords SitesOf(const SpatialShape& shape, int64_t rows) {
  Coords coords = support::RandomSites(2, shape, 1, 7);
  coords = support::Thinned(coords, rows);
  for (int64_t i = 0; i < rows; ++i) coords.values[static_cast<size_t>(i * (shape.axes + 1))] *= 2;
  return coords;
}

// Grids of 1 to 4 axes, two of which have cells for so many rows.
SpatialShape ShapeFor(int64_t rows, size_t axes) {
  const SpatialShape small[] = {Axes({60}), Axes({9, 7}), Axes({4, 5, 3}), Axes({3, 4, 2, 3})};
  const SpatialShape medium[] = {Axes({520}), Axes({23, 25}), Axes({9, 8, 7}), Axes({5, 4, 9, 3})};
  const SpatialShape large[] = {Axes({2600}), Axes({53, 49}), Axes({11, 14, 17}),
                                Axes({5, 8, 9, 7})};
  return rows < 100 ? small[axes - 1] : rows < 1000 ? medium[axes - 1] : large[axes - 1];
}

}  // namespace

TEST(MakesDenseLikeTheCpu) {
  size_t next = 0;
  for (const int64_t rows : support::kRowCounts) {
    for (const int64_t channels : support::kChannelCounts) {
      const SpatialShape shape = ShapeFor(rows, 1 + next++ % 4);
      const Coords coords = SitesOf(shape, rows);
      CheckToDense<float>({coords, support::RandomElements<float>(rows * channels, 20)}, channels,
                          3, shape);
    }
  }
}

TEST(MakesDenseOfEveryType) {
  const SpatialShape shape = Axes({7, 9, 5});
  for (const int64_t channels : support::kChannelCounts) {
    support::ForElements([&](auto zero) {
      using T = decltype(zero);
      const Coords coords = SitesOf(shape, 100);
      CheckToDense<T>({coords, support::RandomElements<T>(100 * channels, 20)}, channels, 3, shape);
    });
  }
  CheckToDense<float>({SitesOf(shape, 10), {}}, 0, 3, shape);
  CheckToDense<float>({{3, {}}, {}}, 4, 0, shape);
}

TEST(TheLastOfEqualSitesIsTheDenseOne) {
  support::Random random(30);
  Coords coords{2, {}};
  for (int i = 0; i < 600; ++i) {
    for (const int64_t size : {2, 5, 7}) {
      coords.values.push_back(static_cast<int32_t>(random.Below(size)));
    }
  }
  CheckToDense<float>({coords, support::RandomElements<float>(600 * 3, 31)}, 3, 2, Axes({5, 7}));
}

// Nothing is read back, so nothing can be said of such sites; memory beside the result is safe.
TEST(SitesOutsideTheGridAreNotWritten) {
  const Coords coords{1, {0, 4, -1, 0, 2, 0, 0, -1, 1, 3, INT32_MAX, INT32_MAX}};
  support::OnDevices([&](CudaContext& context) {
    CHECK(ToDenseOnDevice<float>(context, {coords, {1, 2, 3, 4, 5, 6}}, 1, 2, Axes({4})) ==
          (std::vector<float>{0, 0, 0, 0, 0, 0, 0, 5}));
  });
}

TEST(MakesSparseLikeTheCpu) {
  size_t next = 0;
  for (const int64_t sparsity : {1, 3, 40, 1000000}) {
    for (const int64_t channels : support::kChannelCounts) {
      const SpatialShape shape = ShapeFor(support::kRowCounts.back(), 1 + next++ % 4);
      const int64_t elements = rulebook::DenseElements(2, channels, shape);
      CheckToSparse(RandomDense<float>(elements, sparsity * channels), channels, 2, shape, 0.25F);
    }
  }
}

TEST(MakesSparseOfEveryType) {
  for (const SpatialShape& shape : {Axes({1}), Axes({255}), Axes({16, 16}), Axes({257}),
                                    Axes({5, 9, 19}), Axes({3, 4, 2, 3})}) {
    for (const int64_t channels : {1, 5, 40}) {
      support::ForElements([&](auto zero) {
        using T = decltype(zero);
        const int64_t elements = rulebook::DenseElements(1, channels, shape);
        CheckToSparse(RandomDense<T>(elements, 3 * channels), channels, 1, shape, 0.0F);
      });
    }
  }
  CheckToSparse<float>({}, 0, 2, Axes({5}), 0.0F);
  CheckToSparse<float>({}, 3, 0, Axes({5}), 0.0F);
}

TEST(ACellIsActiveAboveTheThresholdOrAsNan) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float infinity = std::numeric_limits<float>::infinity();
  const std::vector<float> dense = {0.5F, -0.75F, 0.25F, nan, -infinity, 0.0F, -0.5F, -nan};
  for (const float threshold : {0.5F, -1.0F, 0.0F, infinity}) {
    CheckToSparse(dense, 1, 1, Axes({2, 4}), threshold);
    CheckToSparse(dense, 2, 2, Axes({2}), threshold);
  }
}

TEST(ManyChannels) {
  const SpatialShape shape = Axes({3, 2});
  for (const int64_t channels : {1024, 1029, 2500}) {
    const Coords coords{2, {0, 1, 1, 1, 2, 0}};
    CheckToDense<float>({coords, support::RandomElements<float>(2 * channels, 33)}, channels, 2,
                        shape);
    CheckToSparse(RandomDense<float>(12 * channels, channels), channels, 2, shape, 0.0F);
  }
}

TEST(RefusesWhatTheCpuRefuses) {
  support::OnDevices([](CudaContext& context) {
    const SpatialShape shape = Axes({4, 4});
    CHECK_THROWS(rulebook::Error, "coords: 3 spatial axes, but spatial_shape [4, 4] has 2",
                 rulebook::SparseToDense<kCuda, float>(context, {nullptr, 1, 3}, nullptr, 1, 1,
                                                       shape, nullptr));
    CHECK_THROWS(rulebook::Error, "batch_size: 65537 is not in",
                 rulebook::SparseToDense<kCuda, float>(context, {nullptr, 1, 2}, nullptr, 1, 65537,
                                                       shape, nullptr));
    CHECK_THROWS(rulebook::Error, "is over the limit 1073741824",
                 ToSparseOnDevice<float>(context, {}, 1 << 20, 1 << 10, shape, 0.0F));
    CHECK_THROWS(
        rulebook::Error, "is not a number",
        ToSparseOnDevice<float>(context, {}, 1, 0, shape, std::numeric_limits<float>::quiet_NaN()));
  });
}
