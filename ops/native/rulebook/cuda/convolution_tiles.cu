// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#include <iterator>

#include "convolution_tiles.h"

namespace rulebook::cuda {
namespace {

enum class Evidence {
  kMeasured,  // by benchmarks/native/sparse_conv_tiles on a GPU of the generation
  kArgued,    // from occupancy, not yet from time
};

constexpr unsigned Only(ConvArithmetic arithmetic) {
  return 1U << static_cast<unsigned>(arithmetic);
}

constexpr unsigned kAnyArithmetic = Only(ConvArithmetic::kFloat32) | Only(ConvArithmetic::kTf32) |
                                    Only(ConvArithmetic::kFloat16) |
                                    Only(ConvArithmetic::kBFloat16);
constexpr int kAnyGeneration = 0;
constexpr int32_t kAnyChannels = INT32_MAX;
constexpr int64_t kAnyElements = INT64_MAX;

struct Entry {
  Evidence evidence;
  unsigned arithmetic;   // a set of Only(…)
  int generation;        // DeviceTraits::generation
  int32_t in_channels;   // of a group, up to
  int32_t out_channels;  // of a group, up to
  int64_t elements;      // of the output, for each multiprocessor, up to
  Tile tile;
};

constexpr Entry Argued(int32_t out_channels, int64_t elements, Tile tile) {
  return {Evidence::kArgued,
          kAnyArithmetic,
          kAnyGeneration,
          kAnyChannels,
          out_channels,
          elements,
          tile};
}

// The first entry that fits is taken. Measured entries go first, the fewest channels and elements
// before the most.
//
// The argued ones: a tile is as wide as the channels, up to 64, so that features are gathered once,
// but for the smallest problems. Of these the larger reads weights and features from memory less
// often, the smaller fills the GPU sooner. The larger is taken once it makes two blocks for each
// multiprocessor, so that one block's products hide the other's copies. So many are resident at
// once by registers and shared memory (docs/cuda.md), so there is no second wave that is nearly
// empty; with more blocks it is one of several.
constexpr Entry kTable[] = {
    // Measured: none yet.

    Argued(16, kAnyElements, {64, 16}),             // the narrowest
    Argued(32, 2 * 64 * 32, {32, 32}),              // less than two blocks of 64 x 32
    Argued(32, kAnyElements, {64, 32}),             // two or more
    Argued(kAnyChannels, 2 * 64 * 64, {32, 32}),    // less than two of 64 x 64
    Argued(kAnyChannels, 2 * 128 * 64, {64, 64}),   // less than two of 128 x 64
    Argued(kAnyChannels, kAnyElements, {128, 64}),  // two or more
};

}  // namespace

Tile ChooseTile(const ConvSize& size, const DeviceTraits& device) {
  const int64_t elements = size.outputs * size.groups * size.out_channels / device.multiprocessors;
  for (const Entry& entry : kTable) {
    if ((entry.arithmetic & Only(size.arithmetic)) != 0 &&
        (entry.generation == kAnyGeneration || entry.generation == device.generation) &&
        size.in_channels <= entry.in_channels && size.out_channels <= entry.out_channels &&
        elements <= entry.elements) {
      return entry.tile;
    }
  }
  return kTable[std::size(kTable) - 1].tile;
}

}  // namespace rulebook::cuda
