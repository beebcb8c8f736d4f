// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// Dense tensors are walked cell by cell, neighbouring threads on neighbouring cells, and the
// features of a site by one thread: writes to the dense side are whole lines and happen once.
#include <cmath>

#include "columns.h"
#include "coords_text.h"
#include "device.h"
#include "element.h"
#include "grid_key.h"
#include "rulebook/dense.h"

namespace rulebook {
namespace cuda {
namespace {

constexpr int kCellsPerBlock = 256;
constexpr int kWords = kCellsPerBlock / kWarpSize;

struct Grid {
  int64_t size[kMaxAxes];
};

int64_t Volume(const SpatialShape& shape) {
  int64_t volume = 1;
  for (int axis = 0; axis < shape.axes; ++axis) volume *= shape[axis];
  return volume;
}

// One thread for each cell and, along y, each so many channels.
struct CellLaunch {
  explicit CellLaunch(int64_t cells, int64_t channels) {
    constexpr int64_t kLeastChannels = 16;
    constexpr int64_t kMostBlocks = 64;
    channels_each = std::max(kLeastChannels, CeilDiv(channels, kMostBlocks));
    shape = OneThreadEach(cells, kCellsPerBlock);
    shape.blocks_y = CeilDiv(channels, channels_each);
  }
  int64_t channels_each;
  LaunchShape shape;
};

// rows[cell]: the last row there. Sites outside the grid are left out.
template <int kColumns>
__global__ void MarkCells(const int32_t* coords, int64_t count, KeyGrid grid, int32_t* rows) {
  const int64_t row = GlobalThread();
  if (row >= count) return;
  uint64_t cell = 0;
  if (!PackSite<kColumns>(grid, coords + row * kColumns, &cell)) return;
  AtomicMax(&rows[cell], static_cast<int32_t>(row));
}

template <typename T>
__global__ void WriteCells(const T* features, const int32_t* rows, int64_t cells, int64_t volume,
                           int64_t channels, int64_t channels_each, T* out) {
  const int64_t cell = GlobalThread();
  if (cell >= cells) return;
  const int64_t row = rows[cell];
  const int64_t begin = static_cast<int64_t>(blockIdx.y) * channels_each;
  const int64_t end = begin + channels_each < channels ? begin + channels_each : channels;
  const int64_t batch = cell / volume;
  T* to = out + batch * channels * volume + cell % volume;
  for (int64_t c = begin; c < end; ++c) {
    to[c * volume] = row >= 0 ? features[row * channels + c] : T{};
  }
}

// Bit `cell % 32` of words[cell / 32]: whether the cell is active; counts [blocks].
template <typename T>
__global__ void MarkActive(const T* dense, int64_t cells, int64_t volume, int64_t channels,
                           float threshold, uint32_t* words, int32_t* counts) {
  const int64_t cell = GlobalThread();
  bool active = false;
  if (cell < cells) {
    const T* from = dense + cell / volume * channels * volume + cell % volume;
    // Not "> threshold": NaN has to pass.
    for (int64_t c = 0; c < channels && !active; ++c) {
      active = !(fabsf(ToFloat(from[c * volume])) <= threshold);
    }
  }
  const uint32_t word = __ballot_sync(0xFFFFFFFFU, active ? 1 : 0);
  const int count = __syncthreads_count(active ? 1 : 0);
  if (threadIdx.x % kWarpSize == 0) words[GlobalThread() / kWarpSize] = word;
  if (threadIdx.x == 0) counts[blockIdx.x] = count;
}

// sums[block]: the active cells up to and with that block.
template <int kColumns, typename T>
__global__ void WriteSites(const T* dense, const uint32_t* words, const int32_t* sums,
                           int64_t cells, int64_t volume, Grid grid, int64_t channels,
                           int64_t channels_each, int32_t* coords, T* features) {
  const int64_t cell = GlobalThread();
  if (cell >= cells) return;
  const int bit = static_cast<int>(threadIdx.x) % kWarpSize;
  const int own = static_cast<int>(threadIdx.x) / kWarpSize;
  const uint32_t* block_words = words + static_cast<int64_t>(blockIdx.x) * kWords;
  if ((block_words[own] >> bit & 1U) == 0) return;
  int64_t row = blockIdx.x == 0 ? 0 : sums[blockIdx.x - 1];
  for (int word = 0; word < own; ++word) row += __popc(block_words[word]);
  row += __popc(block_words[own] & ((1U << bit) - 1U));

  const int64_t batch = cell / volume;
  if (blockIdx.y == 0) {
    int64_t rest = cell % volume;
    coords[row * kColumns] = static_cast<int32_t>(batch);
#pragma unroll
    for (int axis = kColumns - 2; axis >= 0; --axis) {
      coords[row * kColumns + 1 + axis] = static_cast<int32_t>(rest % grid.size[axis]);
      rest /= grid.size[axis];
    }
  }
  const int64_t begin = static_cast<int64_t>(blockIdx.y) * channels_each;
  const int64_t end = begin + channels_each < channels ? begin + channels_each : channels;
  const T* from = dense + batch * channels * volume + cell % volume;
  for (int64_t c = begin; c < end; ++c) features[row * channels + c] = from[c * volume];
}

}  // namespace
}  // namespace cuda

template <Device D, typename T>
void SparseToDense(Context<D>& context, CoordsView coords, const T* features, int64_t channels,
                   int64_t batch_size, const SpatialShape& shape, T* out) {
  const int64_t elements = DenseElements(batch_size, channels, shape);
  cpu::CheckCoordsView("coords", coords);
  if (coords.axes != shape.axes) {
    ThrowInvalid("coords: ", coords.axes, " spatial axes, but spatial_shape ", ToString(shape),
                 " has ", shape.axes);
  }
  if (elements == 0) return;
  const int64_t volume = cuda::Volume(shape);
  const int64_t cells = batch_size * volume;
  const cuda::Scratch<int32_t> rows(context, cells);
  cuda::FillBytes(context, rows.get(), 0xFF, cells);
  cuda::KeyGrid grid = cuda::MakeKeyGrid(shape);
  grid.size[0] = batch_size;
  WithColumns(coords.columns(), [&](auto columns) {
    cuda::Launch(context, cuda::OneThreadEach(coords.rows), &cuda::MarkCells<columns>, coords.data,
                 coords.rows, grid, rows.get());
  });
  const cuda::CellLaunch launch(cells, channels);
  cuda::Launch(context, launch.shape, &cuda::WriteCells<T>, features, rows.get(), cells, volume,
               channels, launch.channels_each, out);
}

template <Device D, typename T>
void DenseToSparse(Context<D>& context, const T* dense, int64_t batch_size, int64_t channels,
                   const SpatialShape& shape, float threshold,
                   FunctionRef<DenseSites<T>(int64_t)> allocate) {
  const int64_t elements = DenseElements(batch_size, channels, shape);
  if (std::isnan(threshold)) ThrowInvalid("threshold: ", threshold, " is not a number");
  if (elements == 0) {  // no channel: no value to be active by, however many cells there are
    allocate(0);
    return;
  }
  const int64_t volume = cuda::Volume(shape);
  const int64_t cells = batch_size * volume;
  const cuda::CellLaunch launch(cells, channels);
  const int64_t blocks = launch.shape.blocks_x;
  const cuda::Scratch<uint32_t> words(context, blocks * cuda::kWords);
  const cuda::Scratch<int32_t> sums(context, blocks);
  cuda::Launch(context, cuda::OneThreadEach(cells, cuda::kCellsPerBlock),
               &cuda::MarkActive<cuda::Native<T>>, cuda::AsNative(dense), cells, volume, channels,
               threshold, words.get(), sums.get());
  cuda::InclusiveSum(context, sums.get(), sums.get(), blocks);
  const int64_t total = cuda::ReadBack(context, sums.get() + blocks - 1);
  if (total > kMaxSites) {
    ThrowTooLarge("DenseToSparse: ", total, " active cells are over the limit ", kMaxSites);
  }
  const DenseSites<T> sites = allocate(total);
  cuda::Grid grid{};
  for (int axis = 0; axis < shape.axes; ++axis) grid.size[axis] = shape[axis];
  WithColumns(1 + shape.axes, [&](auto columns) {
    cuda::Launch(context, launch.shape, &cuda::WriteSites<columns, T>, dense, words.get(),
                 sums.get(), cells, volume, grid, channels, launch.channels_each, sites.coords,
                 sites.features);
  });
}

template void SparseToDense<Device::kCuda>(CudaContext&, CoordsView, const float*, int64_t, int64_t,
                                           const SpatialShape&, float*);
template void SparseToDense<Device::kCuda>(CudaContext&, CoordsView, const Float16*, int64_t,
                                           int64_t, const SpatialShape&, Float16*);
template void SparseToDense<Device::kCuda>(CudaContext&, CoordsView, const BFloat16*, int64_t,
                                           int64_t, const SpatialShape&, BFloat16*);

template void DenseToSparse<Device::kCuda>(CudaContext&, const float*, int64_t, int64_t,
                                           const SpatialShape&, float,
                                           FunctionRef<DenseSites<float>(int64_t)>);
template void DenseToSparse<Device::kCuda>(CudaContext&, const Float16*, int64_t, int64_t,
                                           const SpatialShape&, float,
                                           FunctionRef<DenseSites<Float16>(int64_t)>);
template void DenseToSparse<Device::kCuda>(CudaContext&, const BFloat16*, int64_t, int64_t,
                                           const SpatialShape&, float,
                                           FunctionRef<DenseSites<BFloat16>(int64_t)>);

}  // namespace rulebook
