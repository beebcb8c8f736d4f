// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// Pooling without a word to the host, in the CPU's order of summation.
#include "device.h"
#include "element.h"
#include "reduce.h"
#include "row_lanes.h"
#include "rulebook/pooling.h"

namespace rulebook {
namespace cuda {
namespace {

template <typename T>
__global__ void Pool(const T* features, int64_t inputs, int64_t channels, const int32_t* neighbors,
                     int64_t kernel_volume, int64_t outputs, PoolMode mode, RowLanes lanes,
                     T* out) {
  const int64_t o = LaneRow(lanes);
  if (o >= outputs) return;
  for (int64_t c = LaneFirst(lanes); c < channels; c += LaneStep(lanes)) {
    float result = 0.0F;
    int count = 0;
    for (int64_t k = 0; k < kernel_volume; ++k) {
      const int64_t i = neighbors[k * outputs + o];
      if (i < 0 || i >= inputs) continue;
      const float value = ToFloat(features[i * channels + c]);
      if (count++ == 0) {
        result = value;
      } else {
        result = mode == PoolMode::kMax ? MaxOf(result, value) : result + value;
      }
    }
    if (mode == PoolMode::kAvg && count > 0) result /= static_cast<float>(count);
    out[o * channels + c] = FromFloat<T>(result);
  }
}

// The first row whose batch index is not below `frame`; within [0, rows] whatever their order.
__device__ inline int64_t FrameBegin(const int32_t* coords, int64_t rows, int64_t columns,
                                     int64_t frame) {
  int64_t low = 0;
  int64_t high = rows;
  while (low < high) {
    const int64_t middle = low + (high - low) / 2;
    if (coords[middle * columns] < frame) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

constexpr int kPoolThreads = 256;
constexpr int kTileRows = 64;

// One block for each frame and each of its groups of 32 channels. The first warp adds up a tile of
// rows, one channel a lane and row by row, while the others fetch the next tile. Sums are float64,
// as on the CPU.
template <typename T>
__global__ void PoolFrames(const T* features, int64_t channels, int64_t groups,
                           const int32_t* coords, int64_t rows, int64_t columns, PoolMode mode,
                           T* out) {
  VOXGATE_SHARED(float, tile, [2][kTileRows][kWarpSize]);
  const int64_t frame = blockIdx.x / groups;
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  const int64_t c = blockIdx.x % groups * kWarpSize + lane;
  const int64_t begin = FrameBegin(coords, rows, columns, frame);
  const int64_t end = FrameBegin(coords, rows, columns, frame + 1);
  const int64_t tiles = begin < end ? (end - begin + kTileRows - 1) / kTileRows : 0;

  double sum = 0.0;
  float best = 0.0F;
  for (int64_t t = 0; t <= tiles; ++t) {
    if (warp > 0 && t < tiles && c < channels) {
      for (int r = warp - 1; r < kTileRows; r += kPoolThreads / kWarpSize - 1) {
        const int64_t i = begin + t * kTileRows + r;
        if (i < end) tile[t % 2][r][lane] = ToFloat(features[i * channels + c]);
      }
    }
    if (warp == 0 && t > 0 && c < channels) {
      const int64_t first = begin + (t - 1) * kTileRows;
      const int64_t count = end - first < kTileRows ? end - first : kTileRows;
      for (int64_t r = 0; r < count; ++r) {
        const float value = tile[(t - 1) % 2][r][lane];
        if (mode == PoolMode::kMax) {
          best = t == 1 && r == 0 ? value : MaxOf(best, value);
        } else {
          sum += static_cast<double>(value);
        }
      }
    }
    __syncthreads();
  }
  if (warp > 0 || c >= channels) return;
  if (mode == PoolMode::kAvg && begin < end) sum /= static_cast<double>(end - begin);
  out[frame * channels + c] = FromFloat<T>(mode == PoolMode::kMax ? best : static_cast<float>(sum));
}

}  // namespace
}  // namespace cuda

template <Device D, typename T>
void SparsePool(Context<D>& context, const T* features, int64_t inputs, int64_t channels,
                const int32_t* neighbors, int64_t kernel_volume, int64_t outputs, PoolMode mode,
                T* out) {
  CheckedProduct(kernel_volume, outputs, kMaxRulebookCells, "neighbors");
  const cuda::RowLanes lanes = cuda::LanesFor(channels);
  cuda::Launch(context, cuda::LanesForEach(outputs, lanes), &cuda::Pool<cuda::Native<T>>,
               cuda::AsNative(features), inputs, channels, neighbors, kernel_volume, outputs, mode,
               lanes, cuda::AsNative(out));
}

template <Device D, typename T>
void SparseGlobalPool(Context<D>& context, const T* features, int64_t channels, CoordsView coords,
                      int64_t batch_size, PoolMode mode, T* out) {
  if (batch_size < 0 || batch_size > kMaxBatchSize) {
    ThrowInvalid("batch_size: ", batch_size, " is not in [0, ", kMaxBatchSize, "]");
  }
  const int64_t groups = cuda::CeilDiv<int64_t>(channels, cuda::kWarpSize);
  cuda::LaunchShape shape;
  shape.blocks_x = batch_size * groups;
  shape.threads = cuda::kPoolThreads;
  cuda::Launch(context, shape, &cuda::PoolFrames<cuda::Native<T>>, cuda::AsNative(features),
               channels, groups, coords.data, coords.rows, coords.columns(), mode,
               cuda::AsNative(out));
}

template void SparsePool<Device::kCuda>(CudaContext&, const float*, int64_t, int64_t,
                                        const int32_t*, int64_t, int64_t, PoolMode, float*);
template void SparsePool<Device::kCuda>(CudaContext&, const Float16*, int64_t, int64_t,
                                        const int32_t*, int64_t, int64_t, PoolMode, Float16*);
template void SparsePool<Device::kCuda>(CudaContext&, const BFloat16*, int64_t, int64_t,
                                        const int32_t*, int64_t, int64_t, PoolMode, BFloat16*);

template void SparseGlobalPool<Device::kCuda>(CudaContext&, const float*, int64_t, CoordsView,
                                              int64_t, PoolMode, float*);
template void SparseGlobalPool<Device::kCuda>(CudaContext&, const Float16*, int64_t, CoordsView,
                                              int64_t, PoolMode, Float16*);
template void SparseGlobalPool<Device::kCuda>(CudaContext&, const BFloat16*, int64_t, CoordsView,
                                              int64_t, PoolMode, BFloat16*);

}  // namespace rulebook
