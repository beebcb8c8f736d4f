// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// The operators that compute, on 16-bit floats: their float32 kernels on widened inputs, and one
// rounding at the end. What only moves rows (rows.cc, dense.cc, union.cc) moves the bits instead.
#include <utility>

#include "conversion.h"
#include "rulebook/convolution.h"
#include "rulebook/interpolate.h"
#include "rulebook/pooling.h"
#include "rulebook/rows.h"
#include "weight_shape.h"

namespace rulebook {

template <typename T>
class PackedWeight<Device::kCpu, T> {
 public:
  PackedWeight(PackedWeightPtr<Device::kCpu, float> weight, const WeightShape& weight_shape)
      : wide(std::move(weight)), shape(weight_shape) {}

  const PackedWeightPtr<Device::kCpu, float> wide;
  const WeightShape shape;
};

namespace {

using cpu::Rounded;
using cpu::Widened;

template <typename T>
PackedWeightPtr<Device::kCpu, T> PackLow(CpuContext& context, const T* weight,
                                         const WeightShape& shape) {
  cpu::CheckWeightShape(shape);
  const Widened wide(context, weight,
                     shape.kernel_volume * (shape.in_channels / shape.groups) * shape.out_channels);
  return PackedWeightPtr<Device::kCpu, T>(new PackedWeight<Device::kCpu, T>(
      PackWeight<Device::kCpu, float>(context, wide.get(), shape), shape));
}

template <typename T>
void ConvolveLow(CpuContext& context, const ConvInputs<T>& in,
                 const PackedWeight<Device::kCpu, T>& weight, T* out) {
  const int64_t out_channels = weight.shape.out_channels;
  const Widened features(context, in.features, in.inputs * weight.shape.in_channels);
  const Widened bias(context, in.bias, out_channels);
  const Widened residual(context, in.residual, in.outputs * out_channels);
  ConvInputs<float> wide;
  wide.features = features.get();
  wide.inputs = in.inputs;
  wide.neighbors = in.neighbors;
  wide.outputs = in.outputs;
  wide.bias = bias.get();
  wide.residual = residual.get();
  wide.activation = in.activation;
  Rounded(context, in.outputs * out_channels, out,
          [&](float* sums) { SparseConv<Device::kCpu, float>(context, wide, *weight.wide, sums); });
}

template <typename T>
void PoolLow(CpuContext& context, const T* features, int64_t inputs, int64_t channels,
             const int32_t* neighbors, int64_t kernel_volume, int64_t outputs, PoolMode mode,
             T* out) {
  const Widened wide(context, features, inputs * channels);
  Rounded(context, outputs * channels, out, [&](float* pooled) {
    SparsePool<Device::kCpu, float>(context, wide.get(), inputs, channels, neighbors, kernel_volume,
                                    outputs, mode, pooled);
  });
}

template <typename T>
void GlobalPoolLow(CpuContext& context, const T* features, int64_t channels, CoordsView coords,
                   int64_t batch_size, PoolMode mode, T* out) {
  const Widened wide(context, features, coords.rows * channels);
  Rounded(context, batch_size * channels, out, [&](float* pooled) {
    SparseGlobalPool<Device::kCpu, float>(context, wide.get(), channels, coords, batch_size, mode,
                                          pooled);
  });
}

template <typename T>
void ReduceLow(CpuContext& context, const T* x, int64_t inputs, int64_t channels,
               const int32_t* row, int64_t outputs, ReduceMode mode, T* out) {
  const Widened wide(context, x, inputs * channels);
  Rounded(context, outputs * channels, out, [&](float* reduced) {
    ReduceRows<Device::kCpu, float>(context, wide.get(), inputs, channels, row, outputs, mode,
                                    reduced);
  });
}

template <typename T>
void InterpolateLow(CpuContext& context, CoordsView coords, const T* features, int64_t channels,
                    const float* points, int64_t num_points, int64_t num_fields,
                    const int32_t* point_batch, const InterpolateOptions& options, T* out) {
  const Widened wide(context, features, coords.rows * channels);
  Rounded(context, num_points * channels, out, [&](float* sampled) {
    SparseInterpolate<Device::kCpu, float>(context, coords, wide.get(), channels, points,
                                           num_points, num_fields, point_batch, options, sampled);
  });
}

}  // namespace

#define VOXGATE_LOW_PRECISION_OF(T)                                                               \
  template <>                                                                                     \
  void PackedWeightDeleter<Device::kCpu, T>::operator()(PackedWeight<Device::kCpu, T>* weight)    \
      const {                                                                                     \
    delete weight;                                                                                \
  }                                                                                               \
  template <>                                                                                     \
  PackedWeightPtr<Device::kCpu, T> PackWeight<Device::kCpu, T>(                                   \
      CpuContext & context, const T* weight, const WeightShape& shape) {                          \
    return PackLow(context, weight, shape);                                                       \
  }                                                                                               \
  template <>                                                                                     \
  void SparseConv<Device::kCpu, T>(CpuContext & context, const ConvInputs<T>& in,                 \
                                   const PackedWeight<Device::kCpu, T>& weight, T* out) {         \
    ConvolveLow(context, in, weight, out);                                                        \
  }                                                                                               \
  template <>                                                                                     \
  void SparsePool<Device::kCpu, T>(                                                               \
      CpuContext & context, const T* features, int64_t inputs, int64_t channels,                  \
      const int32_t* neighbors, int64_t kernel_volume, int64_t outputs, PoolMode mode, T* out) {  \
    PoolLow(context, features, inputs, channels, neighbors, kernel_volume, outputs, mode, out);   \
  }                                                                                               \
  template <>                                                                                     \
  void SparseGlobalPool<Device::kCpu, T>(CpuContext & context, const T* features,                 \
                                         int64_t channels, CoordsView coords, int64_t batch_size, \
                                         PoolMode mode, T* out) {                                 \
    GlobalPoolLow(context, features, channels, coords, batch_size, mode, out);                    \
  }                                                                                               \
  template <>                                                                                     \
  void ReduceRows<Device::kCpu, T>(CpuContext & context, const T* x, int64_t inputs,              \
                                   int64_t channels, const int32_t* row, int64_t outputs,         \
                                   ReduceMode mode, T* out) {                                     \
    ReduceLow(context, x, inputs, channels, row, outputs, mode, out);                             \
  }                                                                                               \
  template <>                                                                                     \
  void SparseInterpolate<Device::kCpu, T>(                                                        \
      CpuContext & context, CoordsView coords, const T* features, int64_t channels,               \
      const float* points, int64_t num_points, int64_t num_fields, const int32_t* point_batch,    \
      const InterpolateOptions& options, T* out) {                                                \
    InterpolateLow(context, coords, features, channels, points, num_points, num_fields,           \
                   point_batch, options, out);                                                    \
  }
VOXGATE_LOW_PRECISION_OF(Float16)
VOXGATE_LOW_PRECISION_OF(BFloat16)
#undef VOXGATE_LOW_PRECISION_OF

}  // namespace rulebook
