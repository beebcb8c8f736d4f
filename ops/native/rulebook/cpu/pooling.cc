// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#include "rulebook/pooling.h"

#include <algorithm>
#include <array>
#include <vector>

#include "coords_text.h"
#include "parallel.h"
#include "vector_ops.h"

namespace rulebook {
namespace {

constexpr int64_t kTileRows = 256;         // output rows that stay in the cache through all offsets
constexpr int64_t kChannelsPerBlock = 16;  // one cache line of float32

struct PoolCall {
  const float* features;
  int64_t inputs;
  int64_t channels;
  const int32_t* neighbors;
  int64_t kernel_volume;
  int64_t outputs;
  PoolMode mode;
  float* out;
};

// Output rows [begin, end), at most kTileRows of them.
void PoolTile(const PoolCall& call, int64_t begin, int64_t end) {
  const int64_t channels = call.channels;
  std::array<int32_t, kTileRows> counts{};
  for (int64_t k = 0; k < call.kernel_volume; ++k) {
    const int32_t* neighbors = call.neighbors + k * call.outputs;
    for (int64_t o = begin; o < end; ++o) {
      const int64_t i = neighbors[o];
      if (i == -1) continue;
      if (i < 0 || i >= call.inputs) {
        ThrowInvalid("neighbors: neighbors[", k, ", ", o, "] is ", i, ", not in [-1, ", call.inputs,
                     ")");
      }
      const float* source = call.features + i * channels;
      float* out = call.out + o * channels;
      if (counts[static_cast<size_t>(o - begin)]++ == 0) {
        std::copy_n(source, channels, out);
      } else if (call.mode == PoolMode::kMax) {
        cpu::MaxInto(source, channels, out);
      } else {
        cpu::AddInto(source, channels, out);
      }
    }
  }
  for (int64_t o = begin; o < end; ++o) {
    const int32_t count = counts[static_cast<size_t>(o - begin)];
    float* out = call.out + o * channels;
    if (count == 0) {
      std::fill_n(out, channels, 0.0F);
    } else if (call.mode == PoolMode::kAvg) {
      cpu::Divide(static_cast<float>(count), channels, out);
    }
  }
}

// Where each batch index's rows begin, [batch_size + 1].
std::vector<int64_t> FrameBegins(CoordsView coords, int64_t batch_size) {
  std::vector<int64_t> begin(static_cast<size_t>(batch_size) + 1, coords.rows);
  int64_t frame = -1;  // the last one whose begin is known
  for (int64_t i = 0; i < coords.rows; ++i) {
    const int64_t batch = coords.row(i)[0];
    if (batch < 0 || batch >= batch_size) {
      ThrowInvalid("coords: row ", i, " ", cpu::RowText(coords, i), " has batch index ", batch,
                   ", not in [0, ", batch_size, ")");
    }
    if (batch == frame) continue;
    if (batch < frame) cpu::ThrowUnordered("coords", coords, i);
    while (frame < batch) begin[static_cast<size_t>(++frame)] = i;
  }
  return begin;
}

// Channels [c0, c1) over rows [begin, end). Sums are kept in float64: a frame has many rows, and
// float32 would lose digits in proportion.
void PoolFrame(const float* features, int64_t channels, int64_t begin, int64_t end, int64_t c0,
               int64_t c1, PoolMode mode, float* out) {
  const int64_t width = c1 - c0;
  std::fill_n(out + c0, width, 0.0F);
  if (begin == end) return;
  if (mode == PoolMode::kMax) {
    std::copy_n(features + begin * channels + c0, width, out + c0);
    for (int64_t i = begin + 1; i < end; ++i) {
      cpu::MaxInto(features + i * channels + c0, width, out + c0);
    }
    return;
  }
  std::array<double, kChannelsPerBlock> sum{};
  for (int64_t i = begin; i < end; ++i) {
    const float* source = features + i * channels + c0;
    for (int64_t c = 0; c < width; ++c) sum[static_cast<size_t>(c)] += double{source[c]};
  }
  const double divisor = mode == PoolMode::kAvg ? static_cast<double>(end - begin) : 1.0;
  for (int64_t c = 0; c < width; ++c) {
    out[c0 + c] = static_cast<float>(sum[static_cast<size_t>(c)] / divisor);
  }
}

}  // namespace

template <>
void SparsePool<Device::kCpu, float>(CpuContext& context, const float* features, int64_t inputs,
                                     int64_t channels, const int32_t* neighbors,
                                     int64_t kernel_volume, int64_t outputs, PoolMode mode,
                                     float* out) {
  CheckedProduct(kernel_volume, outputs, kMaxRulebookCells, "neighbors");
  const PoolCall call{features, inputs, channels, neighbors, kernel_volume, outputs, mode, out};
  cpu::ForBlocks(context, outputs, kTileRows,
                 [&](int64_t, int64_t begin, int64_t end) { PoolTile(call, begin, end); });
}

template <>
void SparseGlobalPool<Device::kCpu, float>(CpuContext& context, const float* features,
                                           int64_t channels, CoordsView coords, int64_t batch_size,
                                           PoolMode mode, float* out) {
  if (batch_size < 0 || batch_size > kMaxBatchSize) {
    ThrowInvalid("batch_size: ", batch_size, " is not in [0, ", kMaxBatchSize, "]");
  }
  const std::vector<int64_t> begin = FrameBegins(coords, batch_size);
  const int64_t blocks = cpu::CeilDiv(channels, kChannelsPerBlock);
  context.ParallelFor(batch_size * blocks, [&](int64_t task) {
    const int64_t frame = task / blocks;
    const int64_t c0 = task % blocks * kChannelsPerBlock;
    PoolFrame(features, channels, begin[static_cast<size_t>(frame)],
              begin[static_cast<size_t>(frame) + 1], c0, std::min(c0 + kChannelsPerBlock, channels),
              mode, out + frame * channels);
  });
}

}  // namespace rulebook
