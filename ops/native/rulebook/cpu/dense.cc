// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// Dense tensors are channel-major and sparse features row-major, so either way one side is read or
// written with a stride. Both operators work on a block of cells by a block of channels: 16
// channels are one cache line of a feature row, and the block's cells of 16 planes stay in the
// cache.
#include "rulebook/dense.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "columns.h"
#include "conversion_loops.h"
#include "coords_text.h"
#include "key_sort.h"
#include "parallel.h"
#include "site_key.h"

namespace rulebook {
namespace {

using cpu::KeyIndex;

constexpr int64_t kRowsPerBlock = 8192;
constexpr int64_t kCellsPerBlock = 4096;
constexpr int64_t kChannelsPerBlock = 16;

// The cells of a batch of grids, in blocks that end where their grid ends.
struct CellBlocks {
  int64_t batch_size;
  int64_t volume;

  int64_t per_grid() const { return cpu::CeilDiv(volume, kCellsPerBlock); }
  int64_t count() const { return batch_size * per_grid(); }
  int64_t batch(int64_t block) const { return block / per_grid(); }
  int64_t begin(int64_t block) const { return block % per_grid() * kCellsPerBlock; }
  int64_t end(int64_t block) const { return std::min(begin(block) + kCellsPerBlock, volume); }
};

int64_t Volume(const SpatialShape& shape) {
  int64_t volume = 1;
  for (int axis = 0; axis < shape.axes; ++axis) volume *= shape[axis];
  return volume;
}

// (cell counted through the whole batch, row), ascending by cell; rows of equal cells ascend too.
std::vector<KeyIndex> RowsByCell(CpuContext& context, CoordsView coords, int64_t batch_size,
                                 const SpatialShape& shape) {
  cpu::KeyBox box = cpu::GridBox(shape);
  box.size[0] = static_cast<uint64_t>(batch_size);
  std::vector<KeyIndex> rows(static_cast<size_t>(coords.rows));
  WithColumns(box.columns, [&](auto columns) {
    cpu::ForBlocks(context, coords.rows, kRowsPerBlock, [&](int64_t, int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        KeyIndex& row = rows[static_cast<size_t>(i)];
        row.index = i;
        if (!cpu::PackSite<columns>(box, coords.data + i * columns, &row.key)) {
          cpu::ThrowOutside("coords", coords, i, batch_size, shape);
        }
      }
    });
  });
  auto by_key = [](const KeyIndex& a, const KeyIndex& b) { return a.key < b.key; };
  if (!std::is_sorted(rows.begin(), rows.end(), by_key)) {
    const int64_t cells = batch_size * Volume(shape);
    cpu::SortByKey(context, rows, static_cast<uint64_t>(cells) - 1);
  }
  return rows;
}

// Channels [c0, c1) of the given cell block: zeros, then the block's rows in order.
template <typename T>
void FillBlock(const std::vector<KeyIndex>& rows, const T* features, int64_t channels,
               const CellBlocks& blocks, int64_t block, int64_t c0, int64_t c1, T* out) {
  const int64_t begin = blocks.begin(block);
  const int64_t cells = blocks.end(block) - begin;
  const int64_t grid = blocks.batch(block);
  T* base = out + (grid * channels + c0) * blocks.volume + begin;
  for (int64_t c = 0; c < c1 - c0; ++c) std::fill_n(base + c * blocks.volume, cells, T{});

  const uint64_t first = static_cast<uint64_t>(grid * blocks.volume + begin);
  const uint64_t last = first + static_cast<uint64_t>(cells);
  auto row = std::lower_bound(rows.begin(), rows.end(), first,
                              [](const KeyIndex& a, uint64_t key) { return a.key < key; });
  for (; row != rows.end() && row->key < last; ++row) {
    const T* source = features + row->index * channels + c0;
    T* cell = base + (row->key - first);
    for (int64_t c = 0; c < c1 - c0; ++c) cell[c * blocks.volume] = source[c];
  }
}

// mask[i] = 1 where cell begin + i of the block's grid is active. Returns how many are.
template <typename T>
int64_t ActiveCells(const T* dense, int64_t channels, const CellBlocks& blocks, int64_t block,
                    float threshold, std::array<int32_t, kCellsPerBlock>& mask) {
  const int64_t begin = blocks.begin(block);
  const int64_t cells = blocks.end(block) - begin;
  std::fill_n(mask.begin(), cells, 0);
  int32_t* active = mask.data();
  for (int64_t c = 0; c < channels; ++c) {
    const T* plane = dense + (blocks.batch(block) * channels + c) * blocks.volume + begin;
    for (int64_t i = 0; i < cells; ++i) {
      // Not "> threshold": NaN has to pass.
      active[i] |= std::fabs(cpu::ToFloat(plane[i])) <= threshold ? 0 : 1;
    }
  }
  int64_t count = 0;
  for (int64_t i = 0; i < cells; ++i) count += active[i];
  return count;
}

template <typename T>
void WriteSites(const T* dense, int64_t channels, const SpatialShape& shape,
                const CellBlocks& blocks, int64_t block,
                const std::array<int32_t, kCellsPerBlock>& mask, int64_t first_row,
                const DenseSites<T>& sites) {
  const int64_t begin = blocks.begin(block);
  const int64_t cells = blocks.end(block) - begin;
  const int64_t grid = blocks.batch(block);
  const int64_t columns = 1 + shape.axes;
  std::array<int32_t, kCellsPerBlock> active;
  size_t count = 0;
  for (int64_t i = 0; i < cells; ++i) {
    if (mask[static_cast<size_t>(i)] != 0) active[count++] = static_cast<int32_t>(i);
  }
  for (size_t j = 0; j < count; ++j) {
    int32_t* row = sites.coords + (first_row + static_cast<int64_t>(j)) * columns;
    row[0] = static_cast<int32_t>(grid);
    int64_t rest = begin + active[j];
    for (int axis = shape.axes - 1; axis >= 0; --axis) {
      row[1 + axis] = static_cast<int32_t>(rest % shape[axis]);
      rest /= shape[axis];
    }
  }
  for (int64_t c0 = 0; c0 < channels; c0 += kChannelsPerBlock) {
    const int64_t c1 = std::min(c0 + kChannelsPerBlock, channels);
    const T* base = dense + grid * channels * blocks.volume + begin;
    for (size_t j = 0; j < count; ++j) {
      T* out = sites.features + (first_row + static_cast<int64_t>(j)) * channels;
      for (int64_t c = c0; c < c1; ++c) out[c] = base[c * blocks.volume + active[j]];
    }
  }
}

}  // namespace

int64_t DenseElements(int64_t batch_size, int64_t channels, const SpatialShape& shape) {
  CheckSpatialShape(shape);
  if (batch_size < 0 || batch_size > kMaxBatchSize) {
    ThrowInvalid("batch_size: ", batch_size, " is not in [0, ", kMaxBatchSize, "]");
  }
  const int64_t planes =
      CheckedProduct(batch_size, channels, kMaxDenseElements, "batch_size x channels");
  return CheckedProduct(planes, Volume(shape), kMaxDenseElements,
                        "batch_size * channels x volume of spatial_shape");
}

template <Device D, typename T>
void SparseToDense(Context<D>& context, CoordsView coords, const T* features, int64_t channels,
                   int64_t batch_size, const SpatialShape& shape, T* out) {
  DenseElements(batch_size, channels, shape);
  cpu::CheckCoordsView("coords", coords);
  if (coords.axes != shape.axes) {
    ThrowInvalid("coords: ", coords.axes, " spatial axes, but spatial_shape ", ToString(shape),
                 " has ", shape.axes);
  }
  const std::vector<KeyIndex> rows = RowsByCell(context, coords, batch_size, shape);
  const CellBlocks blocks{batch_size, Volume(shape)};
  const int64_t channel_blocks = cpu::CeilDiv(channels, kChannelsPerBlock);
  context.ParallelFor(blocks.count() * channel_blocks, [&](int64_t task) {
    const int64_t c0 = task % channel_blocks * kChannelsPerBlock;
    FillBlock(rows, features, channels, blocks, task / channel_blocks, c0,
              std::min(c0 + kChannelsPerBlock, channels), out);
  });
}

template <Device D, typename T>
void DenseToSparse(Context<D>& context, const T* dense, int64_t batch_size, int64_t channels,
                   const SpatialShape& shape, float threshold,
                   FunctionRef<DenseSites<T>(int64_t)> allocate) {
  DenseElements(batch_size, channels, shape);
  if (std::isnan(threshold)) ThrowInvalid("threshold: ", threshold, " is not a number");
  if (channels == 0) {  // no value to be active by, however many cells there are
    allocate(0);
    return;
  }
  const CellBlocks blocks{batch_size, Volume(shape)};
  std::vector<int64_t> first_row(static_cast<size_t>(blocks.count()) + 1, 0);
  context.ParallelFor(blocks.count(), [&](int64_t block) {
    std::array<int32_t, kCellsPerBlock> mask;
    first_row[static_cast<size_t>(block) + 1] =
        ActiveCells(dense, channels, blocks, block, threshold, mask);
  });
  for (size_t b = 1; b < first_row.size(); ++b) first_row[b] += first_row[b - 1];
  const int64_t total = first_row.back();
  if (total > kMaxSites) {
    ThrowTooLarge("DenseToSparse: ", total, " active cells are over the limit ", kMaxSites);
  }
  const DenseSites<T> sites = allocate(total);
  // The mask is found again rather than kept: for a large grid it would be as large as the input.
  context.ParallelFor(blocks.count(), [&](int64_t block) {
    const size_t b = static_cast<size_t>(block);
    if (first_row[b] == first_row[b + 1]) return;
    std::array<int32_t, kCellsPerBlock> mask;
    ActiveCells(dense, channels, blocks, block, threshold, mask);
    WriteSites(dense, channels, shape, blocks, block, mask, first_row[b], sites);
  });
}

template void SparseToDense<Device::kCpu>(CpuContext&, CoordsView, const float*, int64_t, int64_t,
                                          const SpatialShape&, float*);
template void SparseToDense<Device::kCpu>(CpuContext&, CoordsView, const Float16*, int64_t, int64_t,
                                          const SpatialShape&, Float16*);
template void SparseToDense<Device::kCpu>(CpuContext&, CoordsView, const BFloat16*, int64_t,
                                          int64_t, const SpatialShape&, BFloat16*);

template void DenseToSparse<Device::kCpu>(CpuContext&, const float*, int64_t, int64_t,
                                          const SpatialShape&, float,
                                          FunctionRef<DenseSites<float>(int64_t)>);
template void DenseToSparse<Device::kCpu>(CpuContext&, const Float16*, int64_t, int64_t,
                                          const SpatialShape&, float,
                                          FunctionRef<DenseSites<Float16>(int64_t)>);
template void DenseToSparse<Device::kCpu>(CpuContext&, const BFloat16*, int64_t, int64_t,
                                          const SpatialShape&, float,
                                          FunctionRef<DenseSites<BFloat16>(int64_t)>);

}  // namespace rulebook
