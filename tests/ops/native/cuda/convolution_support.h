// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// Layers with their values, run through SparseConv on the device and in float64 on the host.
#pragma once

#include <algorithm>
#include <cmath>
#include <optional>
#include <vector>

#include "check.h"
#include "convolution_tiles.h"
#include "element_support.h"
#include "rulebook/convolution.h"

namespace support {

using rulebook::Activation;
using rulebook::ActivationKind;
using rulebook::BFloat16;
using rulebook::CudaContext;
using rulebook::Float16;
using rulebook::WeightShape;
using rulebook::cuda::Tile;

template <typename T>
constexpr double kTolerance = 2e-2;
template <>
inline constexpr double kTolerance<float> = 1e-5;

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
std::vector<T> Values(Random& random, int64_t count, float scale = 1.0F) {
  std::vector<T> values(static_cast<size_t>(count));
  for (T& value : values) value = Rounded<T>(scale * random.Float());
  return values;
}

// Of five offsets one has no pair, one has a single pair and the others some.
inline std::vector<int32_t> RandomNeighbors(Random& random, const Layer& layer) {
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
    Random random(seed);
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

struct RunOptions {
  bool misaligned = false;     // features and results begin one element after where memory does
  const Tile* tile = nullptr;  // the table's if null
};

template <typename T>
std::vector<T> OnDevice(CudaContext& context, const Case<T>& c, const RunOptions& options = {}) {
  const int64_t skipped = options.misaligned ? 1 : 0;
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
  rulebook::cuda::FillBytes(context, out.get(), 0, skipped);  // read back with the rest
  rulebook::ConvInputs<T> in;
  in.features = features.get() + skipped;
  in.inputs = c.layer.inputs();
  in.neighbors = neighbors.get();
  in.outputs = c.layer.outputs;
  in.bias = bias.get();
  in.residual = residual.get();
  in.activation = c.layer.activation;
  if (options.tile != nullptr) {
    rulebook::cuda::SparseConvWithTile(context, in, *packed, *options.tile, out.get() + skipped);
  } else {
    rulebook::SparseConv<kCuda, T>(context, in, *packed, out.get() + skipped);
  }
  const std::vector<T> values = out.Read();
  return {values.begin() + skipped, values.end()};
}

inline double Activated(const Activation& activation, double x) {
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
    return static_cast<double>(Widened(values[static_cast<size_t>(i)]));
  };
  std::vector<double> features, weight;
  for (const T x : c.features) features.push_back(static_cast<double>(Widened(x)));
  for (const T x : c.weight) weight.push_back(static_cast<double>(Widened(x)));
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
                 const std::vector<T>& result, double tolerance = kTolerance<T>) {
  CHECK_EQ(result.size(), expected.size());
  double scale = 1.0;
  for (const double value : expected) scale = std::max(scale, std::abs(value));
  for (size_t i = 0; i < result.size(); ++i) {
    const double error = std::abs(static_cast<double>(Widened(result[i])) - expected[i]);
    if (error <= tolerance * scale) continue;
    check::Fail(__FILE__, __LINE__, "element ", i, " is ", Widened(result[i]), ", not ",
                expected[i], ": ", c.layer.outputs, " rows, volume ", c.layer.volume, ", ",
                c.layer.in_channels, " to ", c.layer.out_channels, " channels, groups ",
                c.layer.groups, ", activation ", static_cast<int>(c.layer.activation.kind));
  }
}

// Near the reference, and the same bytes however threads are scheduled.
template <typename T>
void CheckLayer(const Layer& layer, bool misaligned = false) {
  const Case<T> c(layer);
  const std::vector<double> expected = Expected(c);
  std::optional<std::vector<T>> first;
  OnDevices([&](CudaContext& context) {
    const std::vector<T> result = OnDevice(context, c, {misaligned, nullptr});
    CheckResult(c, expected, result);
    if (!first) first = result;
    CHECK(SameBytes(result, *first));
  });
}

inline void CheckLayerOfAllTypes(const Layer& layer, bool misaligned = false) {
  CheckLayer<float>(layer, misaligned);
  CheckLayer<Float16>(layer, misaligned);
  CheckLayer<BFloat16>(layer, misaligned);
}

// kVolumes leaves a row of 64 to 64 channels below kMostProducts.
#if defined(VOXGATE_EMULATION_THREAD)
inline constexpr bool kSlow = true;  // its time is ten times the plain build's
inline constexpr int64_t kManyRows = 70;
inline constexpr int64_t kMostProducts = 60'000;
inline constexpr int64_t kVolumes[] = {9, 1, 8, 9, 14};
#elif defined(VOXGATE_EMULATION_ADDRESS)
inline constexpr bool kSlow = false;
inline constexpr int64_t kManyRows = 330;
inline constexpr int64_t kMostProducts = 300'000;
inline constexpr int64_t kVolumes[] = {27, 1, 8, 27, 64};
#else
inline constexpr bool kSlow = false;
inline constexpr int64_t kManyRows = 989;
inline constexpr int64_t kMostProducts = 4'000'000;
inline constexpr int64_t kVolumes[] = {27, 1, 8, 27, 125};
#endif

inline int64_t Products(const Layer& layer) {
  return layer.outputs * layer.volume * layer.in_channels / layer.groups * layer.out_channels;
}

}  // namespace support
