// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// SparseConv of float32 where the context allows tf32.
#include <cmath>
#include <limits>
#include <optional>
#include <vector>

#include "check.h"
#include "convolution_support.h"

using namespace support;  // NOLINT: all of it is for this

namespace {

// Each factor is off by up to 2^-11 of itself, a product by twice that, 1e-3; terms that cancel
// leave results smaller than themselves, for which there is as much again.
constexpr double kTf32Tolerance = 2e-3;

// Of sums of factors that are tf32 already. Tensor cores cut off where float32 rounds, so that the
// errors of a long sum have one sign.
constexpr double kSumTolerance = 3e-5;

// To 10 bits of mantissa, to the nearest.
float RoundedToTf32(float value) {
  if (!std::isfinite(value) || value == 0.0F) return value;
  int exponent = 0;
  const float fraction = std::frexp(value, &exponent);
  return std::ldexp(std::round(fraction * 2048.0F), exponent - 11);
}

// The same layer of factors that are tf32 already.
Case<float> RoundedCase(Case<float> c) {
  for (float& value : c.features) value = RoundedToTf32(value);
  for (float& value : c.weight) value = RoundedToTf32(value);
  return c;
}

// Near the reference; nearer to that of the rounded factors; the same bytes however threads are
// scheduled.
void CheckTf32(const Layer& layer, bool misaligned = false) {
  const Case<float> c(layer);
  const std::vector<double> expected = Expected(c);
  const std::vector<double> expected_of_rounded = Expected(RoundedCase(c));
  std::optional<std::vector<float>> first;
  OnDevices([&](CudaContext& context) {
    Tf32Context tf32(context);
    const std::vector<float> result = OnDevice(tf32, c, {misaligned, nullptr});
    CheckResult(c, expected, result, kTf32Tolerance);
    CheckResult(c, expected_of_rounded, result, kSumTolerance);
    if (!first) first = result;
    CHECK(SameBytes(result, *first));
  });
}

}  // namespace

TEST(EveryPairOfChannelCountsByTf32) {
  const int64_t rows[] = {19, kManyRows, 1};
  int64_t turn = 0;
  for (const int64_t in_channels : {1, 3, 4, 5, 16, 20, 64}) {
    for (const int64_t out_channels : {1, 3, 4, 5, 16, 20, 64}) {
      Layer layer;
      layer.in_channels = in_channels;
      layer.out_channels = out_channels;
      layer.volume = kVolumes[turn % 5];
      layer.outputs = rows[turn % 3];
      layer.bias = turn % 4 != 0;
      layer.residual = turn % 7 < 3;
      while (Products(layer) > kMostProducts) layer.outputs /= 2;
      ++turn;
      CheckTf32(layer);
    }
  }
}

TEST(EveryNumberOfRowsByTf32) {
  for (const int64_t volume : {1, 27, 343}) {
    for (const int64_t rows : {int64_t{0}, int64_t{1}, int64_t{19}, kManyRows}) {
      Layer layer;
      layer.outputs = rows;
      layer.volume = volume;
      layer.in_channels = 5;
      layer.out_channels = 8;
      CheckTf32(layer);
    }
  }
}

TEST(GroupsActivationsAndRowsThatAreNotAlignedByTf32) {
  for (const int64_t groups : {1, 2, 4}) {
    for (const ActivationKind kind : {ActivationKind::kRelu, ActivationKind::kGelu}) {
      Layer layer;
      layer.volume = 9;
      layer.in_channels = 12;
      layer.out_channels = 40;
      layer.groups = groups;
      layer.activation.kind = kind;
      CheckTf32(layer);
      CheckTf32(layer, true);
    }
  }
}

TEST(Tf32IsUsedOnlyWhereItIsAllowed) {
  Layer layer;
  layer.bias = layer.residual = false;
  const Case<float> c(layer);
  const std::vector<double> expected = Expected(c);
  const auto far_off = [&](const std::vector<float>& result) {
    int64_t count = 0;
    for (size_t i = 0; i < result.size(); ++i) {
      count += std::abs(static_cast<double>(result[i]) - expected[i]) > 1e-5 ? 1 : 0;
    }
    return count;
  };
  OnDevices([&](CudaContext& context) {
    Tf32Context tf32(context);
    CHECK_EQ(far_off(OnDevice(context, c)), 0);
    CHECK(far_off(OnDevice(tf32, c)) > layer.outputs);
  });
}

// What is no number stays in the rows that have it for a neighbor.
TEST(InfiniteFeaturesByTf32) {
  Layer layer;
  layer.outputs = 40;
  layer.volume = 3;
  layer.bias = layer.residual = false;
  Case<float> c(layer);
  c.features[0] = std::numeric_limits<float>::quiet_NaN();
  c.features[static_cast<size_t>(layer.in_channels)] = std::numeric_limits<float>::infinity();
  OnDevices([&](CudaContext& context) {
    Tf32Context tf32(context);
    const std::vector<float> out = OnDevice(tf32, c);
    int64_t read_by = 0;
    for (int64_t o = 0; o < layer.outputs; ++o) {
      bool reads = false;
      for (int64_t k = 0; k < layer.volume; ++k) {
        const int32_t row = c.neighbors[static_cast<size_t>(k * layer.outputs + o)];
        reads = reads || row == 0 || row == 1;
      }
      read_by += reads ? 1 : 0;
      for (int64_t j = 0; j < layer.out_channels; ++j) {
        CHECK_EQ(std::isfinite(out[static_cast<size_t>(o * layer.out_channels + j)]), !reads);
      }
    }
    CHECK(read_by > 0 && read_by < layer.outputs);
  });
}
