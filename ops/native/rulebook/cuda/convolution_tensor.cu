// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// SparseConv by tiles on tensor cores, summed up in float32: of 16-bit floats as they are, and of
// float32 rounded to tf32.
#include "convolution_epilogue.h"
#include "ptx.h"

namespace rulebook::cuda {
namespace {

namespace wmma = nvcuda::wmma;

constexpr int kMatrix = 16;  // rows and columns of one product
constexpr int kThreads = 128;
constexpr int kWarps = kThreads / kWarpSize;
constexpr int kSumPitch = kMatrix + 4;
constexpr int kSumsOfLane = kMatrix * kMatrix / kWarpSize;

// What is brought to shared memory at once: two units, each one product deep. A unit has input
// channels of one offset, so narrow layers have two offsets in a stage. While one stage is
// multiplied, the next kStages - 1 are on their way.
constexpr int kUnits = 2;
constexpr int kStages = 3;
template <typename T>
constexpr int kUnitDepth = 2 * kWide<T>;
template <typename T>
constexpr int kDepth = kUnits * kUnitDepth<T>;
constexpr int kWides = 2 * kUnits;  // 16-byte pieces of a row of features

// Rows are padded so that the rows that are read together begin in different banks.
template <typename T>
constexpr int kFeaturePitch = kDepth<T> + kWide<T>;
template <int kColumns>
constexpr int kWeightPitch = kColumns + 8;

template <typename T>
struct OperandOf {
  using Type = T;
};
template <>
struct OperandOf<float> {
  using Type = wmma::precision::tf32;
};

template <typename T, typename Use>
using Operand = wmma::fragment<Use, kMatrix, kMatrix, kUnitDepth<T>, typename OperandOf<T>::Type,
                               wmma::row_major>;
template <typename T>
using Sum = wmma::fragment<wmma::accumulator, kMatrix, kMatrix, kUnitDepth<T>, float>;

template <typename T, typename Use>
__device__ void Load(Operand<T, Use>& operand, const T* from, int pitch) {
  LoadSharedMatrix(operand, from, static_cast<unsigned>(pitch));
  if constexpr (std::is_same_v<T, float>) {
#pragma unroll
    for (int i = 0; i < operand.num_elements; ++i) {
      operand.x[i] = wmma::__float_to_tf32(operand.x[i]);
    }
  }
}

// The part of a tile that one warp makes.
template <int kRows, int kColumns>
struct WarpPart {
  static constexpr int kColumnParts = kColumns == kMatrix ? 1 : 2;
  static constexpr int kRowParts = kWarps / kColumnParts;
  static constexpr int kDown = kRows / kRowParts / kMatrix;  // products
  static constexpr int kAcross = kColumns / kColumnParts / kMatrix;
  static_assert(kDown * kRowParts * kMatrix == kRows &&
                kAcross * kColumnParts * kMatrix == kColumns);

  // The first, within the tile.
  __device__ static int Row() {
    return static_cast<int>(threadIdx.x) / kWarpSize / kColumnParts * kDown * kMatrix;
  }
  __device__ static int Column() {
    return static_cast<int>(threadIdx.x) / kWarpSize % kColumnParts * kAcross * kMatrix;
  }
};

struct Unit {
  int32_t offset;  // the kernel volume after the last
  int32_t channel;
};

template <typename T>
__device__ Unit NextUnit(const ConvProblem<T>& problem, OffsetCursor& offsets, Unit unit) {
  unit.channel += kUnitDepth<T>;
  if (unit.channel < problem.depth) return unit;
  return {offsets.Next(), 0};
}

struct Stage {
  Unit unit[kUnits];
};

template <typename T>
__device__ Stage FirstStage(const ConvProblem<T>& problem, OffsetCursor& offsets) {
  static_assert(kUnits == 2);
  const Unit first = {offsets.Next(), 0};
  return {{first, NextUnit(problem, offsets, first)}};
}

template <typename T>
__device__ Stage NextStage(const ConvProblem<T>& problem, OffsetCursor& offsets,
                           const Stage& stage) {
  const Unit first = NextUnit(problem, offsets, stage.unit[1]);
  return {{first, NextUnit(problem, offsets, first)}};
}

__device__ inline Unit UnitOf(const Stage& stage, int slot) {
  return slot == 0 ? stage.unit[0] : stage.unit[1];
}

// 16 bytes in pieces of kBytes; of the elements, `inside` are there and the others become 0.
template <int kBytes, typename T>
__device__ void CopyPieces(const T* from, int inside, T* to) {
  constexpr int kElements = kBytes / static_cast<int>(sizeof(T));
#pragma unroll
  for (int i = 0; i < kWide<T>; i += kElements) {
    const bool there = i < inside;
    __pipeline_memcpy_async(to + i, there ? from + i : from, kBytes, there ? 0 : kBytes);
  }
}

// One thread's share of bringing features to shared memory: of every kThreads / kWides-th row the
// same 16 bytes. A row without a pair, and padding, becomes 0.
template <typename T, int kRows>
class FeatureCopier {
 public:
  using Rows = T[kFeaturePitch<T>];

  __device__ FeatureCopier(const ConvProblem<T>& problem, const TilePlace& place)
      : row_(static_cast<int>(threadIdx.x) / kWides),
        wide_(static_cast<int>(threadIdx.x) % kWides),
        first_(place.row + row_),
        pitch_(problem.groups * problem.group_inputs),
        features_(problem.features + place.group * problem.group_inputs) {}

  // Which input rows: asked for a stage before they are copied, so that the answer is there.
  __device__ void Find(const ConvProblem<T>& problem, const Stage& stage) {
    const int32_t offset = UnitOf(stage, wide_ / 2).offset;
    if (offset >= problem.volume || offset == found_) return;
    found_ = offset;
#pragma unroll
    for (int pass = 0; pass < kPasses; ++pass) {
      inputs_[pass] = InputRow(problem, offset, first_ + pass * kRowStep);
    }
  }

  __device__ void Copy(const ConvProblem<T>& problem, const Stage& stage, Rows* to) const {
    const Unit unit = UnitOf(stage, wide_ / 2);
    if (unit.offset >= problem.volume) return;
    const int32_t channel = unit.channel + wide_ % 2 * kWide<T>;
#pragma unroll
    for (int pass = 0; pass < kPasses; ++pass) {
      const int inside = inputs_[pass] < 0 ? 0 : problem.group_inputs - channel;
      const T* from = features_;
      if (inside > 0) from += static_cast<int64_t>(inputs_[pass]) * pitch_ + channel;
      CopyRow(problem.copied, from, inside, &to[row_ + pass * kRowStep][wide_ * kWide<T>]);
    }
  }

 private:
  static constexpr int kRowStep = kThreads / kWides;
  static constexpr int kPasses = kRows / kRowStep;
  static_assert(kPasses * kRowStep == kRows);

  __device__ static void CopyRow(int32_t copied, const T* from, int inside, T* to) {
    if (copied == 16) return CopyPieces<16>(from, inside, to);
    if (copied == 8) return CopyPieces<8>(from, inside, to);
    if (copied == 4) return CopyPieces<4>(from, inside, to);
#pragma unroll
    for (int i = 0; i < kWide<T>; ++i) to[i] = i < inside ? from[i] : FromFloat<T>(0.0F);
  }

  int row_;
  int wide_;
  int32_t first_;
  int32_t pitch_;
  const T* features_;
  int32_t found_ = -1;
  int32_t inputs_[kPasses] = {};
};

template <typename T, int kColumns>
__device__ void CopyWeights(const ConvProblem<T>& problem, const TilePlace& place,
                            const Stage& stage, T (*to)[kWeightPitch<kColumns>]) {
  constexpr int kWidesOfRow = kColumns / kWide<T>;
#pragma unroll
  for (int first = 0; first < kDepth<T> * kWidesOfRow; first += kThreads) {
    const int i = first + static_cast<int>(threadIdx.x);
    if (i >= kDepth<T> * kWidesOfRow) continue;
    const int row = i / kWidesOfRow;
    const Unit unit = UnitOf(stage, row / kUnitDepth<T>);
    if (unit.offset >= problem.volume) continue;
    const int32_t channel = unit.channel + row % kUnitDepth<T>;
    const int32_t column = place.column + i % kWidesOfRow * kWide<T>;
    const bool inside = channel < problem.depth && column < problem.columns;
    const T* from = problem.weight;
    if (inside) {
      from += ((static_cast<int64_t>(unit.offset) * problem.groups + place.group) * problem.depth +
               channel) *
                  problem.columns +
              column;
    }
    __pipeline_memcpy_async(&to[row][i % kWidesOfRow * kWide<T>], from, sizeof(Wide<T>),
                            inside ? 0 : sizeof(Wide<T>));
  }
}

// A block's shared memory: the stages, and in their place in the end the sums of each warp's
// products, 16 rows of kSumPitch each.
template <typename T, int kRows, int kColumns>
struct Buffers {
  T features[kStages][kRows][kFeaturePitch<T>];
  T weights[kStages][kDepth<T>][kWeightPitch<kColumns>];
};

template <typename T, int kRows, int kColumns>
using Sums = Sum<T>[WarpPart<kRows, kColumns>::kDown][WarpPart<kRows, kColumns>::kAcross];

template <typename T, int kRows, int kColumns>
__device__ void MultiplyUnit(const Buffers<T, kRows, kColumns>& buffers, int buffer, int unit,
                             Sums<T, kRows, kColumns>& sums) {
  using Part = WarpPart<kRows, kColumns>;
  Operand<T, wmma::matrix_b> w[Part::kAcross];
#pragma unroll
  for (int j = 0; j < Part::kAcross; ++j) {
    Load<T>(w[j], &buffers.weights[buffer][unit * kUnitDepth<T>][Part::Column() + j * kMatrix],
            kWeightPitch<kColumns>);
  }
#pragma unroll
  for (int i = 0; i < Part::kDown; ++i) {
    Operand<T, wmma::matrix_a> x;
    Load<T>(x, &buffers.features[buffer][Part::Row() + i * kMatrix][unit * kUnitDepth<T>],
            kFeaturePitch<T>);
#pragma unroll
    for (int j = 0; j < Part::kAcross; ++j) wmma::mma_sync(sums[i][j], x, w[j], sums[i][j]);
  }
}

// Sums leave the fragments through shared memory, which all threads have done with.
template <typename T, int kRows, int kColumns>
__device__ void WriteSums(const ConvProblem<T>& problem, const TilePlace& place,
                          Buffers<T, kRows, kColumns>& buffers, Sums<T, kRows, kColumns>& sums) {
  using Part = WarpPart<kRows, kColumns>;
  constexpr int kProducts = Part::kDown * Part::kAcross;
  constexpr int kProductSize = kMatrix * kSumPitch;
  static_assert(sizeof(buffers) >= sizeof(float) * kWarps * kProducts * kProductSize);
  float* finished = reinterpret_cast<float*>(&buffers) +
                    static_cast<int>(threadIdx.x) / kWarpSize * kProducts * kProductSize;
#pragma unroll
  for (int i = 0; i < Part::kDown; ++i) {
#pragma unroll
    for (int j = 0; j < Part::kAcross; ++j) {
      wmma::store_matrix_sync(finished + (i * Part::kAcross + j) * kProductSize, sums[i][j],
                              kSumPitch, wmma::mem_row_major);
    }
  }
  __syncwarp();
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int row = lane % kMatrix;
  const int column = lane / kMatrix * kSumsOfLane;
#pragma unroll 1
  for (int product = 0; product < kProducts; ++product) {
    WriteOutputs<kSumsOfLane>(
        problem, place.row + Part::Row() + product / Part::kAcross * kMatrix + row, place.group,
        place.column + Part::Column() + product % Part::kAcross * kMatrix + column,
        finished + product * kProductSize + row * kSumPitch + column);
  }
}

// A row without a pair is a row of zeros: its sums stay what they are as long as all weights are
// finite.
template <typename T, int kRows, int kColumns>
__global__ void __launch_bounds__(kThreads) ConvolveByProducts(ConvProblem<T> problem) {
  using Shared = Buffers<T, kRows, kColumns>;
  using Part = WarpPart<kRows, kColumns>;
  VOXGATE_SHARED(Shared, buffers, [1]);
  VOXGATE_SHARED(uint32_t, has_pairs, [kOffsetWords]);

  const TilePlace place = PlaceOfBlock<kRows, kColumns>(problem);
  FindOffsets<kRows, kThreads>(problem, place.row, has_pairs);
  const int32_t units = CountOffsets(has_pairs, problem.volume) *
                        ((problem.depth + kUnitDepth<T> - 1) / kUnitDepth<T>);
  Sums<T, kRows, kColumns> sums;
#pragma unroll
  for (int i = 0; i < Part::kDown; ++i) {
#pragma unroll
    for (int j = 0; j < Part::kAcross; ++j) wmma::fill_fragment(sums[i][j], 0.0F);
  }

  FeatureCopier<T, kRows> copier(problem, place);
  OffsetCursor offsets(has_pairs, problem.volume);
  Stage ahead = FirstStage(problem, offsets);
  copier.Find(problem, ahead);
  int buffer = 0;  // that the next stage goes to
  for (int32_t done = -(kStages - 1) * kUnits; done < units; done += kUnits) {
    if (done >= 0) {
      __pipeline_wait_prior(kStages - 2);
      __syncthreads();  // the stage is here, and the one before it has been read
    }
    copier.Copy(problem, ahead, buffers[0].features[buffer]);
    CopyWeights<T, kColumns>(problem, place, ahead, buffers[0].weights[buffer]);
    __pipeline_commit();
    ahead = NextStage(problem, offsets, ahead);
    copier.Find(problem, ahead);
    buffer = buffer + 1 == kStages ? 0 : buffer + 1;
    if (done < 0) continue;
#pragma unroll
    for (int unit = 0; unit < kUnits; ++unit) {
      if (done + unit < units) {
        MultiplyUnit<T, kRows, kColumns>(buffers[0], buffer, unit, sums);
      }
    }
  }
  __pipeline_wait_prior(0);
  __syncthreads();
  WriteSums<T, kRows, kColumns>(problem, place, buffers[0], sums);
}

template <typename T, int kRows, int kColumns>
constexpr TileKernel<T> Kernel() {
  return {{kRows, kColumns}, kThreads, &ConvolveByProducts<T, kRows, kColumns>};
}

template <typename T>
void Convolve(CudaContext& context, const ConvProblem<T>& problem, const Tile& tile) {
  static const TileKernel<T> kKernels[] = {Kernel<T, 64, 16>(), Kernel<T, 32, 32>(),
                                           Kernel<T, 64, 32>(), Kernel<T, 64, 64>(),
                                           Kernel<T, 128, 64>()};
  LaunchTile(context, problem, tile, kKernels);
}

}  // namespace

void ConvolveOnTensorCores(CudaContext& context, const ConvProblem<float>& problem,
                           const Tile& tile) {
  Convolve(context, problem, tile);
}
void ConvolveOnTensorCores(CudaContext& context, const ConvProblem<__half>& problem,
                           const Tile& tile) {
  Convolve(context, problem, tile);
}
void ConvolveOnTensorCores(CudaContext& context, const ConvProblem<__nv_bfloat16>& problem,
                           const Tile& tile) {
  Convolve(context, problem, tile);
}

}  // namespace rulebook::cuda
