// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>
#include <vector>

#include "check.h"
#include "device_support.h"
#include "element.h"
#include "rulebook/convolution.h"

using rulebook::Activation;
using rulebook::ActivationKind;
using rulebook::BFloat16;
using rulebook::CudaContext;
using rulebook::Float16;
using rulebook::WeightShape;
using support::DeviceArray;
using support::kCuda;

namespace {

float Widen(float value) { return value; }
float Widen(Float16 value) { return __half2float(__ushort_as_half(value.bits)); }
float Widen(BFloat16 value) { return __bfloat162float(__ushort_as_bfloat16(value.bits)); }

template <typename T>
T Narrowed(float value);
template <>
float Narrowed<float>(float value) {
  return value;
}
template <>
Float16 Narrowed<Float16>(float value) {
  return {__half_as_ushort(__float2half_rn(value))};
}
template <>
BFloat16 Narrowed<BFloat16>(float value) {
  return {__bfloat16_as_ushort(__float2bfloat16_rn(value))};
}

template <typename T>
constexpr double kTolerance = 2e-2;
template <>
constexpr double kTolerance<float> = 1e-5;

template <typename T>
bool SameBytes(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() &&
         (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

struct Layer {
  int64_t outputs = 19;
  int64_t volume = 27;
  int64_t in_channels = 4;
  int64_t out_channels = 16;
  int64_t groups = 1;
  Activation activation;
  bool bias = true;
  bool residual = true;

  int64_t inputs() const { return outputs + 3; }
  WeightShape shape() const { return {volume, in_channels, out_channels, groups}; }
};

template <typename T>
std::vector<T> Values(support::Random& random, int64_t count, float scale = 1.0F) {
  std::vector<T> values(static_cast<size_t>(count));
  for (T& value : values) value = Narrowed<T>(scale * random.Float());
  return values;
}

// Of five offsets one has no pair, one has a single pair and the others some.
std::vector<int32_t> RandomNeighbors(support::Random& random, const Layer& layer) {
  std::vector<int32_t> neighbors(static_cast<size_t>(layer.volume * layer.outputs), -1);
  if (layer.outputs == 0) return neighbors;
  for (int64_t k = 0; k < layer.volume; ++k) {
    int32_t* row = neighbors.data() + k * layer.outputs;
    const auto any = [&] { return static_cast<int32_t>(random.Below(layer.inputs())); };
    if (k % 5 == 3) continue;
    if (k % 5 == 4) {
      row[random.Below(layer.outputs)] = any();
      continue;
    }
    for (int64_t o = 0; o < layer.outputs; ++o) row[o] = random.Below(5) < 2 ? any() : -1;
  }
  return neighbors;
}

// A layer with its values, on the host.
template <typename T>
struct Case {
  explicit Case(const Layer& layer_, uint64_t seed = 1) : layer(layer_) {
    support::Random random(seed);
    features = Values<T>(random, layer.inputs() * layer.in_channels);
    weight = Values<T>(random, layer.volume * layer.in_channels / layer.groups * layer.out_channels,
                       0.5F);
    neighbors = RandomNeighbors(random, layer);
    if (layer.bias) bias = Values<T>(random, layer.out_channels);
    if (layer.residual) residual = Values<T>(random, layer.outputs * layer.out_channels);
  }

  Layer layer;
  std::vector<T> features, weight, bias, residual;
  std::vector<int32_t> neighbors;
};

// `misaligned`: features and results begin one element after where memory does.
template <typename T>
std::vector<T> OnDevice(CudaContext& context, const Case<T>& c, bool misaligned = false) {
  const int64_t skipped = misaligned ? 1 : 0;
  std::vector<T> moved(static_cast<size_t>(skipped));
  moved.insert(moved.end(), c.features.begin(), c.features.end());
  const DeviceArray<T> features(context, moved);
  const DeviceArray<int32_t> neighbors(context, c.neighbors);
  const DeviceArray<T> bias(context, c.bias);
  const DeviceArray<T> residual(context, c.residual);
  rulebook::PackedWeightPtr<kCuda, T> packed;
  {
    const DeviceArray<T> weight(context, c.weight);
    packed = rulebook::PackWeight<kCuda, T>(context, weight.get(), c.layer.shape());
  }
  const DeviceArray<T> out(context, skipped + c.layer.outputs * c.layer.out_channels);
  rulebook::ConvInputs<T> in;
  in.features = features.get() + skipped;
  in.inputs = c.layer.inputs();
  in.neighbors = neighbors.get();
  in.outputs = c.layer.outputs;
  in.bias = bias.get();
  in.residual = residual.get();
  in.activation = c.layer.activation;
  rulebook::SparseConv<kCuda, T>(context, in, *packed, out.get() + skipped);
  const std::vector<T> values = out.Read();
  return {values.begin() + skipped, values.end()};
}

double Activated(const Activation& activation, double x) {
  switch (activation.kind) {
    case ActivationKind::kNone:
      return x;
    case ActivationKind::kRelu:
      return std::max(x, 0.0);
    case ActivationKind::kLeakyRelu:
      return x < 0.0 ? static_cast<double>(activation.alpha) * x : x;
    case ActivationKind::kSigmoid:
      return 1.0 / (1.0 + std::exp(-x));
    case ActivationKind::kSilu:
      return x / (1.0 + std::exp(-x));
    case ActivationKind::kGelu:
      return 0.5 * x * (1.0 + std::erf(x / std::sqrt(2.0)));
  }
  return x;
}

template <typename T>
std::vector<double> Expected(const Case<T>& c) {
  const Layer& layer = c.layer;
  const int64_t in_group = layer.in_channels / layer.groups;
  const int64_t out_group = layer.out_channels / layer.groups;
  const auto value = [](const std::vector<T>& values, int64_t i) {
    return static_cast<double>(Widen(values[static_cast<size_t>(i)]));
  };
  std::vector<double> features, weight;
  for (const T x : c.features) features.push_back(static_cast<double>(Widen(x)));
  for (const T x : c.weight) weight.push_back(static_cast<double>(Widen(x)));
  std::vector<double> out(static_cast<size_t>(layer.outputs * layer.out_channels));
  for (int64_t o = 0; o < layer.outputs; ++o) {
    double* sums = out.data() + o * layer.out_channels;
    for (int64_t k = 0; k < layer.volume; ++k) {
      const int64_t row = c.neighbors[static_cast<size_t>(k * layer.outputs + o)];
      if (row < 0 || row >= layer.inputs()) continue;
      for (int64_t j = 0; j < layer.out_channels; ++j) {
        const double* x = features.data() + row * layer.in_channels + j / out_group * in_group;
        const double* w = weight.data() + k * in_group * layer.out_channels + j;
        for (int64_t i = 0; i < in_group; ++i) sums[j] += x[i] * w[i * layer.out_channels];
      }
    }
    for (int64_t j = 0; j < layer.out_channels; ++j) {
      if (layer.bias) sums[j] += value(c.bias, j);
      if (layer.residual) sums[j] += value(c.residual, o * layer.out_channels + j);
      sums[j] = Activated(layer.activation, sums[j]);
    }
  }
  return out;
}

template <typename T>
void CheckResult(const Case<T>& c, const std::vector<double>& expected,
                 const std::vector<T>& result) {
  CHECK_EQ(result.size(), expected.size());
  double scale = 1.0;
  for (const double value : expected) scale = std::max(scale, std::abs(value));
  for (size_t i = 0; i < result.size(); ++i) {
    const double error = std::abs(static_cast<double>(Widen(result[i])) - expected[i]);
    if (error <= kTolerance<T> * scale) continue;
    check::Fail(__FILE__, __LINE__, "element ", i, " is ", Widen(result[i]), ", not ", expected[i],
                ": ", c.layer.outputs, " rows, volume ", c.layer.volume, ", ", c.layer.in_channels,
                " to ", c.layer.out_channels, " channels, groups ", c.layer.groups, ", activation ",
                static_cast<int>(c.layer.activation.kind));
  }
}

// Near the reference, and the same bytes however threads are scheduled.
template <typename T>
void CheckLayer(const Layer& layer, bool misaligned = false) {
  const Case<T> c(layer);
  const std::vector<double> expected = Expected(c);
  std::optional<std::vector<T>> first;
  support::OnDevices([&](CudaContext& context) {
    const std::vector<T> result = OnDevice(context, c, misaligned);
    CheckResult(c, expected, result);
    if (!first) first = result;
    CHECK(SameBytes(result, *first));
  });
}

void CheckLayerOfAllTypes(const Layer& layer, bool misaligned = false) {
  CheckLayer<float>(layer, misaligned);
  CheckLayer<Float16>(layer, misaligned);
  CheckLayer<BFloat16>(layer, misaligned);
}

#if defined(VOXGATE_EMULATION_THREAD)
constexpr int64_t kManyRows = 70;  // its time is ten times the plain build's
constexpr int64_t kMostProducts = 60'000;
constexpr int64_t kMostRows = 8193;
#elif defined(VOXGATE_EMULATION_ADDRESS)
constexpr int64_t kManyRows = 330;
constexpr int64_t kMostProducts = 300'000;
constexpr int64_t kMostRows = 32769;
#else
constexpr int64_t kManyRows = 989;
constexpr int64_t kMostProducts = 4'000'000;
constexpr int64_t kMostRows = 32769;
#endif

int64_t Products(const Layer& layer) {
  return layer.outputs * layer.volume * layer.in_channels / layer.groups * layer.out_channels;
}

}  // namespace

TEST(EveryPairOfChannelCounts) {
  const int64_t channels[] = {1, 3, 4, 5, 16, 20, 32, 64};
  const int64_t volumes[] = {27, 1, 8, 27, 125};
  const int64_t rows[] = {19, kManyRows, 1};
  int64_t turn = 0;
  for (const int64_t in_channels : channels) {
    for (const int64_t out_channels : channels) {
      Layer layer;
      layer.in_channels = in_channels;
      layer.out_channels = out_channels;
      layer.volume = volumes[turn % 5];
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

TEST(RowsThatAreNotAligned) {
  Layer layer;
  layer.in_channels = 48;
  layer.out_channels = 24;
  CheckLayerOfAllTypes(layer, true);
}

// As many rows as the larger tiles are for, and the first of them alone: the same bytes.
template <typename T>
void CheckRowsAlone(int64_t channels) {
  Layer layer;
  layer.volume = 1;
  layer.in_channels = 3;
  layer.out_channels = channels;
  layer.bias = layer.residual = false;
  for (const int64_t rows : {8193, 32769}) {
    if (rows > kMostRows) continue;
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
    const auto context = [] {
#if defined(__CUDACC__)
      return rulebook::MakeCudaContext(0);
#else
      return cuda_emulation::MakeContext(4);
#endif
    }();
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
  support::OnDevices([&](CudaContext& context) {
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
  support::OnDevices([&](CudaContext& context) {
    const std::vector<float> out = OnDevice(context, c);
    CHECK(std::isnan(out[0]));
    for (size_t i = 8 * 16; i < out.size(); ++i) CHECK_EQ(out[i], 0.0F);
    CHECK(std::isinf(out[16]));
    for (size_t i = 17; i < 32; ++i) CHECK(std::isfinite(out[i]));
  });
}

TEST(WeightsThatCannotBePacked) {
  support::OnDevices([](CudaContext& context) {
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
