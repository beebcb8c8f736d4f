// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <cstring>
#include <vector>

#include "check.h"
#include "convolution_support.h"

using namespace support;  // NOLINT: all of it is for this

TEST(EveryPairOfChannelCounts) {
  const int64_t channels[] = {1, 3, 4, 5, 16, 20, 32, 64};
  const int64_t rows[] = {19, kManyRows, 1};
  int64_t turn = 0;
  for (const int64_t in_channels : channels) {
    for (const int64_t out_channels : channels) {
      Layer layer;
      layer.in_channels = in_channels;
      layer.out_channels = out_channels;
      layer.volume = kVolumes[turn % 5];
      layer.outputs = rows[turn % 3];
      layer.bias = turn % 4 != 0;
      layer.residual = turn % 7 < 3;
      while (Products(layer) > kMostProducts) layer.outputs /= 2;
      const int64_t type = turn++ % 3;
      CheckLayer<float>(layer);
      if (type == 0) CheckLayer<BFloat16>(layer);
      if (type != 0) CheckLayer<Float16>(layer);
    }
  }
}

TEST(EveryVolumeAndNumberOfRows) {
  for (const int64_t volume : {1, 8, 27, 125}) {
    for (const int64_t rows : {int64_t{0}, int64_t{1}, int64_t{19}, kManyRows}) {
      Layer layer;
      layer.outputs = rows;
      layer.volume = volume;
      layer.in_channels = 5;
      layer.out_channels = 8;
      CheckLayer<float>(layer);
      CheckLayer<Float16>(layer);
    }
  }
}

TEST(EveryActivation) {
  for (const ActivationKind kind :
       {ActivationKind::kNone, ActivationKind::kRelu, ActivationKind::kLeakyRelu,
        ActivationKind::kSigmoid, ActivationKind::kSilu, ActivationKind::kGelu}) {
    for (const int terms : {0, 1, 2, 3}) {
      Layer layer;
      layer.volume = 8;
      layer.activation = {kind, 0.3F};
      layer.bias = terms % 2 != 0;
      layer.residual = terms / 2 != 0;
      CheckLayerOfAllTypes(layer);
    }
  }
}

TEST(Groups) {
  struct Channels {
    int64_t in, out, groups;
  };
  // Depthwise, several outputs for each input, groups without tiles, and groups with.
  for (const Channels& channels : {Channels{5, 5, 5}, Channels{32, 32, 32}, Channels{4, 20, 4},
                                   Channels{20, 4, 2}, Channels{6, 10, 2}, Channels{32, 64, 2},
                                   Channels{20, 40, 2}, Channels{3, 60, 3}, Channels{64, 66, 2}}) {
    Layer layer;
    layer.outputs = 70;
    layer.volume = 9;
    layer.in_channels = channels.in;
    layer.out_channels = channels.out;
    layer.groups = channels.groups;
    CheckLayerOfAllTypes(layer);
  }
}

template <typename T>
void CheckPairs(CudaContext& context, const Layer& layer, const std::vector<int32_t>& offsets,
                double tolerance = kTolerance<T>) {
  Case<T> c(layer);
  std::fill(c.neighbors.begin(), c.neighbors.end(), -1);
  for (const int32_t offset : offsets) {
    c.neighbors[static_cast<size_t>(offset * layer.outputs + offset % layer.outputs)] = 1;
  }
  CheckResult(c, Expected(c), OnDevice(context, c), tolerance);
}

TEST(LargeKernelsWithFewPairs) {
  Layer layer;
  layer.volume = 343;
  layer.in_channels = kSlow ? 5 : 20;
  const std::vector<std::vector<int32_t>> cases = {{},   {0},      {342},         {31},
                                                   {32}, {63, 64}, {0, 130, 341}, {5, 6, 7, 300}};
  const auto run = [&](CudaContext& context) {
    Tf32Context tf32(context);
    for (const std::vector<int32_t>& offsets : cases) {
      CheckPairs<float>(context, layer, offsets);
      CheckPairs<float>(tf32, layer, offsets, kTolerance<Float16>);
      CheckPairs<Float16>(context, layer, offsets);
      CheckPairs<BFloat16>(context, layer, offsets);
    }
  };
  OnDevices(run, 1);
}

TEST(RowsThatAreNotAligned) {
  Layer layer;
  layer.in_channels = 48;
  layer.out_channels = 24;
  CheckLayerOfAllTypes(layer, true);
}

// As many rows as the larger tiles are for where a GPU has few multiprocessors, and the first of
// them alone: the same bytes.
template <typename T>
void CheckRowsAlone(int64_t channels) {
  Layer layer;
  layer.volume = 1;
  layer.in_channels = 3;
  layer.out_channels = channels;
  layer.bias = layer.residual = false;
  for (const int64_t rows : {600, 1700}) {
    layer.outputs = rows;
    Case<T> many(layer);
    Case<T> few = many;
    few.layer.outputs = 37;
    few.neighbors.clear();
    for (int64_t k = 0; k < layer.volume; ++k) {
      for (int64_t o = 0; o < few.layer.outputs; ++o) {
        int32_t& row = many.neighbors[static_cast<size_t>(k * layer.outputs + o)];
        if (row >= few.layer.inputs()) row = -1;
        few.neighbors.push_back(row);
      }
    }
    const std::vector<double> expected = Expected(many);
    const auto context = MakeOneContext();
    const std::vector<T> together = OnDevice(*context, many);
    CheckResult(many, expected, together);
    const std::vector<T> alone = OnDevice(*context, few);
    CHECK(std::memcmp(together.data(), alone.data(), alone.size() * sizeof(T)) == 0);
  }
}

TEST(RowsAloneAndAmongMany) {
  CheckRowsAlone<float>(32);
  CheckRowsAlone<float>(40);
  CheckRowsAlone<Float16>(32);
  CheckRowsAlone<BFloat16>(40);
}

// The contract makes them undefined; they must not lead out of bounds. Here: no pair.
TEST(NeighborsThatAreNoRows) {
  Layer layer;
  layer.volume = 3;
  OnDevices([&](CudaContext& context) {
    for (const int64_t groups : {1, 4}) {
      layer.groups = groups;
      Case<float> c(layer);
      c.neighbors[0] = static_cast<int32_t>(layer.inputs());
      c.neighbors[5] = -2;
      c.neighbors[20] = 2147483647;
      c.neighbors[21] = -2147483647 - 1;
      CheckResult(c, Expected(c), OnDevice(context, c));
    }
  });
}

// What is no number stays in the rows that have it for a neighbor.
TEST(InfiniteValues) {
  Layer layer;
  layer.volume = 2;
  layer.bias = layer.residual = false;
  Case<float> c(layer);
  std::fill(c.neighbors.begin(), c.neighbors.end(), -1);
  for (int32_t o = 0; o < 8; ++o) c.neighbors[static_cast<size_t>(o)] = o;
  c.weight[0] = INFINITY;
  c.features[0] = NAN;
  OnDevices([&](CudaContext& context) {
    const std::vector<float> out = OnDevice(context, c);
    CHECK(std::isnan(out[0]));
    for (size_t i = 8 * 16; i < out.size(); ++i) CHECK_EQ(out[i], 0.0F);
    CHECK(std::isinf(out[16]));
    for (size_t i = 17; i < 32; ++i) CHECK(std::isfinite(out[i]));
  });
}

TEST(WeightsThatCannotBePacked) {
  OnDevices([](CudaContext& context) {
    const auto pack = [&](const WeightShape& shape) {
      rulebook::PackWeight<kCuda, float>(context, nullptr, shape);
    };
    CHECK_THROWS(rulebook::Error, "must all be at least 1", pack({27, 0, 16, 1}));
    CHECK_THROWS(rulebook::Error, "3 groups do not divide", pack({27, 6, 16, 3}));
    CHECK_THROWS(rulebook::Error, "kernel volume", pack({5000, 6, 16, 1}));
    const DeviceArray<float> weight(context, std::vector<float>{1.0F});
    const auto packed = rulebook::PackWeight<kCuda, float>(context, weight.get(), {1, 1, 1, 1});
    rulebook::ConvInputs<float> in;
    in.inputs = int64_t{1} << 32U;
    CHECK_THROWS(rulebook::Error, "4294967296",
                 rulebook::SparseConv<kCuda, float>(context, in, *packed, nullptr));
  });
}
