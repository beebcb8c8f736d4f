// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// Kernels with one deliberate mistake each, and the same kernels without it.
#pragma once

#include "device.h"

namespace kernels {

enum class Mistake { kNone, kMade };

constexpr int kThreads = 64;

// Each block turns its part of `values` round.
template <Mistake kMistake>
__global__ void ReverseBlocks(const int32_t* values, int32_t* reversed) {
  VOXGATE_SHARED(int32_t, tile, [kThreads]);
  const auto t = static_cast<int>(threadIdx.x);
  tile[t] = values[rulebook::cuda::GlobalThread()];
  if constexpr (kMistake == Mistake::kNone) __syncthreads();
  reversed[rulebook::cuda::GlobalThread()] = tile[kThreads - 1 - t];
}

// The same within each warp.
template <Mistake kMistake>
__global__ void ReverseWarps(const int32_t* values, int32_t* reversed) {
  VOXGATE_SHARED(int32_t, tile, [kThreads]);
  const auto t = static_cast<int>(threadIdx.x);
  tile[t] = values[rulebook::cuda::GlobalThread()];
  if constexpr (kMistake == Mistake::kNone) {
    __syncwarp();
  } else {
    __shfl_sync(0xFFFFFFFFU, 0, 0);  // brings the lanes together but orders no memory
  }
  reversed[rulebook::cuda::GlobalThread()] = tile[t ^ 31];
}

template <Mistake kMistake>
__global__ void CountThreads(int32_t* count) {
  if constexpr (kMistake == Mistake::kNone) {
    rulebook::cuda::AtomicAdd(count, 1);
  } else {
    *count = *count + 1;
  }
}

// The same with one thread of each block at it.
template <Mistake kMistake>
__global__ void CountBlocks(int32_t* count) {
  if (threadIdx.x != 0) return;
  if constexpr (kMistake == Mistake::kNone) {
    rulebook::cuda::AtomicAdd(count, 1);
  } else {
    *count = *count + 1;
  }
}

// Dynamic, so that no compiler knows the size. reversed[i] = values of the thread before.
template <Mistake kMistake>
__global__ void ReadBeside(const int32_t* values, int32_t* shifted) {
  VOXGATE_DYNAMIC_SHARED(int32_t, tile);
  const auto t = static_cast<int>(threadIdx.x);
  tile[t] = values[t];
  __syncthreads();
  if constexpr (kMistake == Mistake::kNone) {
    shifted[t] = t == 0 ? 0 : tile[t - 1];
  } else {
    const int32_t before = tile[t - 1];
    shifted[t] = t == 0 ? 0 : before;
  }
}

template <Mistake kMistake>
__global__ void WriteBeside(const int32_t* values, int32_t* copy) {
  VOXGATE_DYNAMIC_SHARED(int32_t, tile);
  const auto t = static_cast<int>(threadIdx.x);
  if constexpr (kMistake == Mistake::kNone) {
    tile[t] = values[t];
  } else {
    tile[t + 1] = values[t];
  }
  __syncthreads();
  copy[t] = kMistake == Mistake::kNone ? tile[t] : tile[t + 1];
}

template <Mistake kMistake>
__global__ void ReadBesideDeviceMemory(const int32_t* values, int32_t* shifted) {
  const auto t = static_cast<int>(threadIdx.x);
  if constexpr (kMistake == Mistake::kNone) {
    shifted[t] = t == kThreads - 1 ? 0 : values[t + 1];
  } else {
    const int32_t next = values[t + 1];
    shifted[t] = t == kThreads - 1 ? 0 : next;
  }
}

// Brings values to shared memory behind the thread's back.
template <Mistake kMistake>
__global__ void CopyAsynchronously(const int32_t* values, int32_t* copy) {
  VOXGATE_SHARED(int32_t, tile, [kThreads]);
  const auto t = static_cast<int>(threadIdx.x);
  __pipeline_memcpy_async(&tile[t], &values[t], sizeof(int32_t));
  __pipeline_commit();
  if constexpr (kMistake == Mistake::kNone) __pipeline_wait_prior(0);
  __syncthreads();
  copy[t] = tile[kThreads - 1 - t];
}

}  // namespace kernels
