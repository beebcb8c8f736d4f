// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// Times every tile of SparseConv on a GPU and prints entries for the table in
// ops/native/rulebook/cuda/convolution_tiles.cu:
//
//   cmake --build build/gpu --target sparse_conv_tiles_on_gpu
//   build/gpu/tests/ops/native/cuda/sparse_conv_tiles_on_gpu
//
// The sizes are the submanifold layers of SECOND's backbone on a KITTI scan (kitti_000000_full.bin,
// the grid of benchmarks/sites.py), and as much smaller and larger. With --quick, which is for
// emulation, a few sites of the narrowest layers.
#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <vector>

#include "convolution_tiles.h"
#include "device_support.h"
#include "element_support.h"
#include "rulebook/convolution.h"
#include "rulebook/rulebook.h"

namespace {

using rulebook::cuda::ConvArithmetic;
using rulebook::cuda::Tile;
using support::DeviceArray;
using support::kCuda;

struct Level {
  int64_t sites;
  int thickness;     // of the surface that sites lie on
  double occupancy;  // of the surface: with the thickness, as many pairs for each site as the scan
  int64_t in_channels;
  int64_t out_channels;
};

constexpr Level kLevels[] = {
    {41264, 1, 0.59, 4, 16},  {41264, 1, 0.59, 16, 16}, {50589, 2, 0.73, 32, 32},
    {25229, 2, 0.91, 64, 64}, {8597, 2, 0.94, 64, 64},  {8597, 2, 0.94, 128, 128},
};
constexpr double kScales[] = {0.25, 0.5, 1.0, 2.0, 4.0};
const double kBetweenScales = std::sqrt(2.0);

const rulebook::SpatialShape kShape = support::Axes({64, 2048, 2048});

// Sites on a wavy surface, canonical.
support::Coords SurfaceSites(const Level& level, int64_t count) {
  const double cells = static_cast<double>(count) / (level.occupancy * level.thickness);
  const auto side = static_cast<int64_t>(std::ceil(std::sqrt(cells)));
  support::Random random(1);
  std::vector<std::array<int32_t, 4>> sites;
  for (int64_t y = 0; y < side; ++y) {
    for (int64_t x = 0; x < side; ++x) {
      const double height = 20.0 + 8.0 * std::sin(0.05 * static_cast<double>(x)) +
                            8.0 * std::cos(0.03 * static_cast<double>(y));
      for (int z = 0; z < level.thickness; ++z) {
        if (static_cast<double>(random.Below(1000)) >= 1000.0 * level.occupancy) continue;
        sites.push_back({0, static_cast<int32_t>(height) + z, static_cast<int32_t>(y),
                         static_cast<int32_t>(x)});
      }
    }
  }
  std::sort(sites.begin(), sites.end());
  support::Coords coords;
  for (const auto& site : sites) {
    coords.values.insert(coords.values.end(), site.begin(), site.end());
  }
  return coords;
}

struct Setting {
  const char* name;
  ConvArithmetic arithmetic;
};

template <typename T>
class Layer {
 public:
  Layer(rulebook::CudaContext& context, const Level& level, int64_t sites)
      : Layer(context, level, SurfaceSites(level, sites)) {}

  int64_t sites() const { return sites_; }

  // Microseconds of one convolution, the better of two means after one run to warm up.
  double Time(const Tile& tile, int repeats) {
    Run(tile, 1);
    const double first = Run(tile, repeats);
    return std::min(first, Run(tile, repeats));
  }

 private:
  Layer(rulebook::CudaContext& context, const Level& level, const support::Coords& coords)
      : context_(context),
        sites_(coords.rows()),
        features_(context, support::RandomElements<T>(sites_ * level.in_channels, 2)),
        neighbors_(context, kVolume * sites_),
        out_(context, sites_ * level.out_channels) {
    const support::DeviceCoords on_device(context, coords);
    rulebook::SubmanifoldRulebook<kCuda>(context, on_device.view(), kShape, support::Same(3, 3),
                                         support::Same(3, 1), neighbors_.get());
    const DeviceArray<T> weight(
        context, support::RandomElements<T>(kVolume * level.in_channels * level.out_channels, 3));
    weight_ = rulebook::PackWeight<kCuda, T>(context, weight.get(),
                                             {kVolume, level.in_channels, level.out_channels, 1});
    inputs_.features = features_.get();
    inputs_.inputs = sites_;
    inputs_.neighbors = neighbors_.get();
    inputs_.outputs = sites_;
    inputs_.activation.kind = rulebook::ActivationKind::kRelu;
  }

  double Run(const Tile& tile, int repeats) {
    const auto begin = std::chrono::steady_clock::now();
    for (int i = 0; i < repeats; ++i) {
      rulebook::cuda::SparseConvWithTile<T>(context_, inputs_, *weight_, tile, out_.get());
    }
    rulebook::cuda::ReadBack(context_, neighbors_.get());  // waits
    const std::chrono::duration<double, std::micro> time = std::chrono::steady_clock::now() - begin;
    return time.count() / repeats;
  }

  static constexpr int64_t kVolume = 27;

  rulebook::CudaContext& context_;
  int64_t sites_;
  DeviceArray<T> features_;
  DeviceArray<int32_t> neighbors_;
  DeviceArray<T> out_;
  rulebook::PackedWeightPtr<kCuda, T> weight_;
  rulebook::ConvInputs<T> inputs_;
};

// One line of times, and the table's entry for the fastest tile.
template <typename T>
void TimeTiles(rulebook::CudaContext& context, const Setting& setting, const Level& level,
               int64_t sites, int repeats) {
  Layer<T> layer(context, level, sites);
  const rulebook::cuda::DeviceTraits device = rulebook::cuda::CurrentDevice();
  const Tile chosen = ChooseTile({setting.arithmetic, static_cast<int32_t>(level.in_channels),
                                  static_cast<int32_t>(level.out_channels), 1, layer.sites()},
                                 device);
  std::printf("// %s, %lld sites, %lld to %lld channels, us:", setting.name,
              static_cast<long long>(layer.sites()), static_cast<long long>(level.in_channels),
              static_cast<long long>(level.out_channels));
  Tile fastest{};
  double shortest = 0.0;
  for (const Tile& tile : rulebook::cuda::kTiles) {
    const double time = layer.Time(tile, repeats);
    std::printf(" %dx%d %.1f%s", tile.rows, tile.columns, time, tile == chosen ? "*" : "");
    if (fastest.rows == 0 || time < shortest) {
      fastest = tile;
      shortest = time;
    }
  }
  const double elements = static_cast<double>(layer.sites() * level.out_channels) /
                          device.multiprocessors * kBetweenScales;
  std::printf(
      "\n{Evidence::kMeasured, Only(ConvArithmetic::k%s), %d, %lld, %lld, %.0f, {%d, %d}},\n",
      setting.name, device.generation, static_cast<long long>(level.in_channels),
      static_cast<long long>(level.out_channels), elements, fastest.rows, fastest.columns);
}

void TimeSettings(rulebook::CudaContext& context, const Level& level, int64_t sites, int repeats) {
  support::Tf32Context tf32(context);
  TimeTiles<float>(context, {"Float32", ConvArithmetic::kFloat32}, level, sites, repeats);
  TimeTiles<float>(tf32, {"Tf32", ConvArithmetic::kTf32}, level, sites, repeats);
  TimeTiles<rulebook::Float16>(context, {"Float16", ConvArithmetic::kFloat16}, level, sites,
                               repeats);
  TimeTiles<rulebook::BFloat16>(context, {"BFloat16", ConvArithmetic::kBFloat16}, level, sites,
                                repeats);
}

}  // namespace

int main(int argc, char** argv) {
  const bool quick = argc > 1 && std::strcmp(argv[1], "--quick") == 0;
  const auto context = support::MakeOneContext();
  std::puts("// * the table's choice now");
  for (const Level& level : kLevels) {
    if (quick) {
      if (level.out_channels == kLevels[0].out_channels) TimeSettings(*context, level, 40, 1);
      continue;
    }
    for (const double scale : kScales) {
      const auto sites = static_cast<int64_t>(scale * static_cast<double>(level.sites));
      TimeSettings(*context, level, sites, 50);
    }
  }
  return 0;
}
