// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// Which tile a problem gets, and that it does not matter to the result.
#include <vector>

#include "check.h"
#include "convolution_support.h"

using namespace support;  // NOLINT: all of it is for this
using rulebook::cuda::ChooseTile;
using rulebook::cuda::ConvArithmetic;
using rulebook::cuda::DeviceTraits;
using rulebook::cuda::kTiles;

namespace {

constexpr DeviceTraits kServer = {132, 90};
constexpr DeviceTraits kVehicle = {16, 87};

template <typename T>
void CheckTilesAgree(const Layer& layer, bool tf32) {
  const Case<T> c(layer);
  OnDevices(
      [&](CudaContext& plain) {
        Tf32Context with_tf32(plain);
        CudaContext& context = tf32 ? with_tf32 : plain;
        const std::vector<T> expected = OnDevice(context, c);
        for (const Tile& tile : kTiles) {
          CHECK(SameBytes(OnDevice(context, c, {false, &tile}), expected));
        }
      },
      1);
}

}  // namespace

TEST(EveryTileGivesTheSameBytes) {
  for (const int64_t in_channels : {5, 48}) {
    for (const int64_t out_channels : {3, 72}) {
      for (const int64_t groups : {1, 2}) {
        Layer layer;
        layer.outputs = 150;
        layer.volume = kSlow ? 5 : 9;
        layer.in_channels = groups * in_channels;
        layer.out_channels = groups * out_channels;
        layer.groups = groups;
        while (Products(layer) > kMostProducts / 2) layer.outputs /= 2;
        CheckTilesAgree<float>(layer, false);
        CheckTilesAgree<float>(layer, true);
        CheckTilesAgree<Float16>(layer, false);
        CheckTilesAgree<BFloat16>(layer, false);
      }
    }
  }
}

TEST(TilesAreAsWideAsTheChannels) {
  for (const ConvArithmetic arithmetic : {ConvArithmetic::kFloat32, ConvArithmetic::kTf32,
                                          ConvArithmetic::kFloat16, ConvArithmetic::kBFloat16}) {
    for (const int64_t outputs : {int64_t{0}, int64_t{1}, int64_t{40'000}, int64_t{1} << 26}) {
      CHECK(ChooseTile({arithmetic, 4, 16, 1, outputs}, kServer) == (Tile{64, 16}));
      CHECK_EQ(ChooseTile({arithmetic, 16, 17, 1, outputs}, kServer).columns, 32);
    }
    CHECK_EQ(ChooseTile({arithmetic, 64, 64, 1, 40'000}, kServer).columns, 64);
    CHECK_EQ(ChooseTile({arithmetic, 64, 256, 1, 40'000}, kServer).columns, 64);
  }
}

TEST(LargerTilesAreForProblemsThatFillTheGpu) {
  const auto tile = [](int64_t outputs, const DeviceTraits& device) {
    return ChooseTile({ConvArithmetic::kFloat16, 64, 64, 1, outputs}, device);
  };
  // Two blocks for each multiprocessor: of 64 rows, of 128 rows.
  CHECK(tile(132 * 2 * 64, kServer) == (Tile{32, 32}));
  CHECK(tile(132 * 2 * 64 + 132, kServer) == (Tile{64, 64}));
  CHECK(tile(132 * 2 * 128, kServer) == (Tile{64, 64}));
  CHECK(tile(132 * 2 * 128 + 132, kServer) == (Tile{128, 64}));
  CHECK(tile(132 * 2 * 64, kVehicle) == (Tile{128, 64}));
  // Groups and more channels make as many blocks of fewer rows.
  CHECK(ChooseTile({ConvArithmetic::kFloat16, 64, 64, 4, 40'000 / 4}, kServer) ==
        tile(40'000, kServer));
  CHECK(ChooseTile({ConvArithmetic::kFloat16, 64, 256, 1, 40'000 / 4}, kServer) ==
        tile(40'000, kServer));
}

TEST(TilesWithoutKernelAreRefused) {
  Layer layer;
  const Case<Float16> c(layer);
  const Tile tile{48, 80};
  OnDevices([&](CudaContext& context) {
    CHECK_THROWS(rulebook::Error, "48 x 80", OnDevice(context, c, {false, &tile}));
  });
}
