// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// SparseConv: weights packed, and which kernel takes a problem. Groups too narrow for tiles,
// depthwise above all, are convolved here.
#include <cstddef>
#include <cstdint>

#include "convolution_problem.h"
#include "packed_weight_cuda.h"
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
__global__ void ConvolveDirectly(ConvProblem<T> problem) {
  const int64_t out_channels = static_cast<int64_t>(problem.groups) * problem.group_outputs;
  const int64_t in_channels = static_cast<int64_t>(problem.groups) * problem.group_inputs;
  const int64_t count = problem.outputs * out_channels;
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t at = GlobalThread(); at < count; at += step) {
    const int64_t row = at / out_channels;
    const int64_t channel = at % out_channels;
    const int64_t first_input = channel / problem.group_outputs * problem.group_inputs;
    float sum = 0.0F;
    for (int32_t k = 0; k < problem.volume; ++k) {
      const int32_t input = InputRow(problem, k, row);
      if (input < 0) continue;
      const T* x = problem.features + input * in_channels + first_input;
      const T* w = problem.weight + k * problem.group_inputs * out_channels + channel;
      for (int32_t c = 0; c < problem.group_inputs; ++c) {
        sum = fmaf(ToFloat(x[c]), ToFloat(w[c * out_channels]), sum);
      }
    }
    problem.out[at] = FromFloat<T>(Finished(problem, at, channel, sum));
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

bool Aligned(const void* memory) {
  constexpr uintptr_t kWide = 16;
  return reinterpret_cast<uintptr_t>(memory) % kWide == 0;
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
              const PackedWeight<Device::kCuda, T>& weight, T* out) {
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
  constexpr int32_t kWide = 16 / static_cast<int32_t>(sizeof(T));
  problem.wide_inputs = problem.group_inputs % kWide == 0 && Aligned(in.features);
  problem.wide_outputs = problem.group_outputs % kWide == 0 && Aligned(out);
  problem.activation = in.activation.kind;
  problem.alpha = in.activation.alpha;
  if (weight.direct()) {
    Launch(context, BlocksFor(in.outputs * weight.shape().out_channels),
           &ConvolveDirectly<Native<T>>, problem);
  } else if (in.outputs > 0) {
    ConvolveByTiles(context, problem);
  }
}

}  // namespace
}  // namespace cuda

#define VOXGATE_CONVOLUTION_OF(T)                                                                \
  template <>                                                                                    \
  void PackedWeightDeleter<Device::kCuda, T>::operator()(PackedWeight<Device::kCuda, T>* weight) \
      const {                                                                                    \
    delete weight;                                                                               \
  }                                                                                              \
  template <>                                                                                    \
  PackedWeightPtr<Device::kCuda, T> PackWeight<Device::kCuda, T>(                                \
      CudaContext & context, const T* weight, const WeightShape& shape) {                        \
    return cuda::PackOnDevice(context, weight, shape);                                           \
  }                                                                                              \
  template <>                                                                                    \
  void SparseConv<Device::kCuda, T>(CudaContext & context, const ConvInputs<T>& in,              \
                                    const PackedWeight<Device::kCuda, T>& weight, T* out) {      \
    cuda::Convolve(context, in, weight, out);                                                    \
  }
VOXGATE_CONVOLUTION_OF(float)
VOXGATE_CONVOLUTION_OF(Float16)
VOXGATE_CONVOLUTION_OF(BFloat16)
#undef VOXGATE_CONVOLUTION_OF

}  // namespace rulebook
