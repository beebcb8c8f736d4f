// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// SparseConv: weights packed, and which kernel takes a problem. Groups too narrow for tiles,
// depthwise above all, are convolved here.
#include <cstddef>
#include <cstdint>

#include "convolution_epilogue.h"
#include "packed_weight_cuda.h"
#include "row_lanes.h"
#include "rulebook/convolution.h"
#include "weight_shape.h"

namespace rulebook {
namespace cuda {
namespace {

constexpr int64_t kMostBlocks = int64_t{1} << 20;

// Of a stride loop; more would be of no use.
LaunchShape BlocksFor(int64_t items) {
  LaunchShape shape = OneThreadEach(items);
  shape.blocks_x = std::min(shape.blocks_x, kMostBlocks);
  return shape;
}

// [volume, group_inputs, groups * group_outputs] to [volume, groups, depth, columns], padded by 0.
template <typename T>
__global__ void Pack(const T* weight, ConvProblem<T> shape, int64_t count, T* packed) {
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = GlobalThread(); i < count; i += step) {
    const int64_t column = i % shape.columns;
    const int64_t channel = i / shape.columns % shape.depth;
    const int64_t group = i / shape.columns / shape.depth % shape.groups;
    const int64_t offset = i / shape.columns / shape.depth / shape.groups;
    T value = FromFloat<T>(0.0F);
    if (column < shape.group_outputs && channel < shape.group_inputs) {
      value = weight[((offset * shape.group_inputs + channel) * shape.groups + group) *
                         shape.group_outputs +
                     column];
    }
    packed[i] = value;
  }
}

// One thread for each element of the output.
template <typename T>
__global__ void ConvolveDirectly(ConvProblem<T> problem, RowLanes lanes) {
  const int64_t row = LaneRow(lanes);
  if (row >= problem.outputs) return;
  const int32_t out_channels = problem.groups * problem.group_outputs;
  const int64_t in_channels = static_cast<int64_t>(problem.groups) * problem.group_inputs;
  for (auto channel = static_cast<int32_t>(LaneFirst(lanes)); channel < out_channels;
       channel += static_cast<int32_t>(LaneStep(lanes))) {
    const int32_t group = channel / problem.group_outputs;
    const int32_t first_input = group * problem.group_inputs;
    float sum = 0.0F;
    for (int32_t k = 0; k < problem.volume; ++k) {
      const int32_t input = InputRow(problem, k, row);
      if (input < 0) continue;
      const T* x = problem.features + input * in_channels + first_input;
      const T* w =
          problem.weight + static_cast<int64_t>(k) * problem.group_inputs * out_channels + channel;
      for (int32_t c = 0; c < problem.group_inputs; ++c) {
        sum = fmaf(ToFloat(x[c]), ToFloat(w[static_cast<int64_t>(c) * out_channels]), sum);
      }
    }
    WriteOutputs<1>(problem, row, group, channel - group * problem.group_outputs, &sum);
  }
}

template <typename T>
ConvProblem<T> ProblemOf(const WeightShape& shape) {
  ConvProblem<T> problem{};
  problem.volume = static_cast<int32_t>(shape.kernel_volume);
  problem.groups = static_cast<int32_t>(shape.groups);
  problem.group_inputs = static_cast<int32_t>(shape.in_channels / shape.groups);
  problem.group_outputs = static_cast<int32_t>(shape.out_channels / shape.groups);
  problem.depth = CeilDiv(problem.group_inputs, kDepthMultiple<T>) * kDepthMultiple<T>;
  problem.columns = CeilDiv(problem.group_outputs, kColumnMultiple<T>) * kColumnMultiple<T>;
  return problem;
}

// Whether rows of `bytes` that begin at `memory`, which may be null, are aligned to `width`.
bool Aligned(const void* memory, int64_t bytes, int64_t width) {
  return reinterpret_cast<uintptr_t>(memory) % static_cast<uintptr_t>(width) == 0 &&
         bytes % width == 0;
}

// How many bytes of features may be copied at once.
template <typename T>
int32_t CopiedBytes(const T* features, int32_t group_inputs) {
  for (const int32_t width : {16, 8, 4}) {
    if (Aligned(features, group_inputs * int64_t{sizeof(T)}, width)) return width;
  }
  return sizeof(T);
}

template <typename T>
constexpr ConvArithmetic kArithmeticOf = ConvArithmetic::kFloat32;
template <>
constexpr ConvArithmetic kArithmeticOf<__half> = ConvArithmetic::kFloat16;
template <>
constexpr ConvArithmetic kArithmeticOf<__nv_bfloat16> = ConvArithmetic::kBFloat16;

// `tile`: null for the table's.
template <typename T>
void ConvolveByTile(CudaContext& context, const ConvProblem<T>& problem, const Tile* tile) {
  const bool tf32 = std::is_same_v<T, float> && context.use_tf32();
  const ConvArithmetic arithmetic = tf32 ? ConvArithmetic::kTf32 : kArithmeticOf<T>;
  const Tile chosen = tile != nullptr
                          ? *tile
                          : ChooseTile({arithmetic, problem.group_inputs, problem.group_outputs,
                                        problem.groups, problem.outputs},
                                       CurrentDevice());
  if constexpr (std::is_same_v<T, float>) {
    if (!tf32) return ConvolveFloat32(context, problem, chosen);
  }
  ConvolveOnTensorCores(context, problem, chosen);
}

template <typename T>
PackedWeightPtr<Device::kCuda, T> PackOnDevice(CudaContext& context, const T* weight,
                                               const WeightShape& shape) {
  cpu::CheckWeightShape(shape);
  const auto problem = ProblemOf<Native<T>>(shape);
  const bool direct = shape.groups > 1 && problem.group_outputs < kColumnMultiple<Native<T>>;
  const int64_t volume = shape.kernel_volume;
  const int64_t count = direct ? volume * problem.group_inputs * shape.out_channels
                               : volume * shape.groups * int64_t{problem.depth} * problem.columns;
  PackedWeightPtr<Device::kCuda, T> packed(
      new PackedWeight<Device::kCuda, T>(context, shape, direct, count));
  if (direct) {
    Copy(context, packed->data(), AsNative(weight), count);
  } else {
    Launch(context, BlocksFor(count), &Pack<Native<T>>, AsNative(weight), problem, count,
           packed->data());
  }
  return packed;
}

template <typename T>
void Convolve(CudaContext& context, const ConvInputs<T>& in,
              const PackedWeight<Device::kCuda, T>& weight, const Tile* tile, T* out) {
  if (in.inputs > kMaxSites) {
    ThrowTooLarge("features: ", in.inputs, " rows are over the limit ", kMaxSites);
  }
  if (in.outputs > kMaxSites) {
    ThrowTooLarge("neighbors: ", in.outputs, " outputs are over the limit ", kMaxSites);
  }
  auto problem = ProblemOf<Native<T>>(weight.shape());
  problem.features = AsNative(in.features);
  problem.neighbors = in.neighbors;
  problem.weight = weight.data();
  problem.bias = AsNative(in.bias);
  problem.residual = AsNative(in.residual);
  problem.out = AsNative(out);
  problem.outputs = in.outputs;
  problem.inputs = static_cast<int32_t>(in.inputs);
  problem.copied = CopiedBytes(in.features, problem.group_inputs);
  problem.wide_outputs = true;
  for (const T* memory : {static_cast<const T*>(out), in.residual, in.bias}) {
    problem.wide_outputs =
        problem.wide_outputs && Aligned(memory, problem.group_outputs * int64_t{sizeof(T)}, 16);
  }
  problem.activation = in.activation.kind;
  problem.alpha = in.activation.alpha;
  if (weight.direct()) {
    const RowLanes lanes = LanesFor(weight.shape().out_channels);
    Launch(context, LanesForEach(in.outputs, lanes), &ConvolveDirectly<Native<T>>, problem, lanes);
  } else if (in.outputs > 0) {
    ConvolveByTile(context, problem, tile);
  }
}

}  // namespace

template <typename T>
void SparseConvWithTile(CudaContext& context, const ConvInputs<T>& in,
                        const PackedWeight<Device::kCuda, T>& weight, const Tile& tile, T* out) {
  Convolve(context, in, weight, &tile, out);
}

}  // namespace cuda

#define VOXGATE_CONVOLUTION_OF(T)                                                                  \
  template <>                                                                                      \
  void PackedWeightDeleter<Device::kCuda, T>::operator()(PackedWeight<Device::kCuda, T>* weight)   \
      const {                                                                                      \
    delete weight;                                                                                 \
  }                                                                                                \
  template <>                                                                                      \
  PackedWeightPtr<Device::kCuda, T> PackWeight<Device::kCuda, T>(                                  \
      CudaContext & context, const T* weight, const WeightShape& shape) {                          \
    return cuda::PackOnDevice(context, weight, shape);                                             \
  }                                                                                                \
  template <>                                                                                      \
  void SparseConv<Device::kCuda, T>(CudaContext & context, const ConvInputs<T>& in,                \
                                    const PackedWeight<Device::kCuda, T>& weight, T* out) {        \
    cuda::Convolve(context, in, weight, nullptr, out);                                             \
  }                                                                                                \
  template void cuda::SparseConvWithTile(CudaContext&, const ConvInputs<T>&,                       \
                                         const PackedWeight<Device::kCuda, T>&, const cuda::Tile&, \
                                         T*);
VOXGATE_CONVOLUTION_OF(float)
VOXGATE_CONVOLUTION_OF(Float16)
VOXGATE_CONVOLUTION_OF(BFloat16)
#undef VOXGATE_CONVOLUTION_OF

}  // namespace rulebook
