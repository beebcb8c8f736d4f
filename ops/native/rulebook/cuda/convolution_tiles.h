// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// Which part of its output a block of SparseConv makes. All tiles give the same bytes; they differ
// in time.
#pragma once

#include <cstdint>

#include "device.h"
#include "rulebook/convolution.h"

namespace rulebook::cuda {

enum class ConvArithmetic { kFloat32, kTf32, kFloat16, kBFloat16 };

struct Tile {
  int rows;     // of the output
  int columns;  // output channels of one group

  constexpr bool operator==(const Tile& other) const {
    return rows == other.rows && columns == other.columns;
  }
};

// Every arithmetic has a kernel for each.
inline constexpr Tile kTiles[] = {{64, 16}, {32, 32}, {64, 32}, {64, 64}, {128, 64}};

// What the choice depends on.
struct ConvSize {
  ConvArithmetic arithmetic;
  int32_t in_channels;   // of a group
  int32_t out_channels;  // of a group
  int32_t groups;
  int64_t outputs;
};

// The tile that the table in convolution_tiles.cu has for a problem.
Tile ChooseTile(const ConvSize& size, const DeviceTraits& device);

// SparseConv with a tile of the caller's choice, one of kTiles: for measuring. Groups that are
// convolved without tiles have none to choose.
template <typename T>
void SparseConvWithTile(CudaContext& context, const ConvInputs<T>& in,
                        const PackedWeight<Device::kCuda, T>& weight, const Tile& tile, T* out);

}  // namespace rulebook::cuda
