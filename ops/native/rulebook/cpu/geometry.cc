// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "rulebook/rulebook.h"

namespace rulebook {
namespace {

constexpr int64_t kMaxAxisValue = int64_t{1} << 30;  // of stride, padding, dilation

void CheckAxisValues(const char* name, const PerAxis& values, int axes, int64_t low) {
  if (values.axes != axes) {
    ThrowInvalid(name, " ", ToString(values), " has ", values.axes, " values, kernel_size has ",
                 axes);
  }
  for (int axis = 0; axis < axes; ++axis) {
    if (values[axis] < low || values[axis] > kMaxAxisValue) {
      ThrowInvalid(name, " ", ToString(values), ": every value must be in [", low, ", ",
                   kMaxAxisValue, "]");
    }
  }
}

int64_t OutputSize(const ConvGeometry& g, int axis, int64_t size) {
  const int64_t reach = g.dilation[axis] * (g.kernel_size[axis] - 1);
  if (g.transposed) {
    return (size - 1) * g.stride[axis] - 2 * g.padding[axis] + reach + 1 + g.output_padding[axis];
  }
  const int64_t room = size + 2 * g.padding[axis] - reach - 1;
  return room < 0 ? 0 : room / g.stride[axis] + 1;
}

}  // namespace

void ConvGeometry::Check() const {
  if (axes() < 1 || axes() > kMaxAxes) {
    ThrowInvalid("kernel_size: ", axes(), " spatial axes, expected 1 to ", kMaxAxes);
  }
  CheckAxisValues("kernel_size", kernel_size, axes(), 1);
  CheckAxisValues("stride", stride, axes(), 1);
  CheckAxisValues("padding", padding, axes(), 0);
  CheckAxisValues("dilation", dilation, axes(), 1);
  KernelVolume();
  if (!transposed) return;
  CheckAxisValues("output_padding", output_padding, axes(), 0);
  for (int axis = 0; axis < axes(); ++axis) {
    if (output_padding[axis] >= std::max(stride[axis], dilation[axis])) {
      ThrowInvalid("output_padding ", ToString(output_padding), " must be below stride ",
                   ToString(stride), " or dilation ", ToString(dilation), " on every axis");
    }
  }
}

int64_t ConvGeometry::KernelVolume() const {
  int64_t volume = 1;
  for (int axis = 0; axis < axes(); ++axis) {
    volume = CheckedProduct(volume, kernel_size[axis], kMaxKernelVolume, "kernel volume");
  }
  return volume;
}

SpatialShape ConvGeometry::OutputShape(const SpatialShape& input_shape) const {
  if (input_shape.axes != axes()) {
    ThrowInvalid("spatial_shape ", ToString(input_shape), " has ", input_shape.axes,
                 " axes, kernel_size ", ToString(kernel_size), " has ", axes());
  }
  CheckSpatialShape(input_shape);
  SpatialShape shape;
  shape.axes = axes();
  for (int axis = 0; axis < axes(); ++axis) {
    shape[axis] = OutputSize(*this, axis, input_shape[axis]);
  }
  for (int axis = 0; axis < axes(); ++axis) {
    if (shape[axis] < 1) {
      ThrowInvalid("kernel_size ", ToString(kernel_size), ", dilation ", ToString(dilation),
                   ", padding ", ToString(padding), " leave no output on axis ", axis,
                   " of spatial_shape ", ToString(input_shape));
    }
  }
  CheckSpatialShape(shape);
  return shape;
}

ConvGeometry SubmanifoldGeometry(const PerAxis& kernel_size, const PerAxis& dilation) {
  ConvGeometry geometry;
  geometry.kernel_size = kernel_size;
  geometry.dilation = dilation;
  geometry.stride.axes = geometry.padding.axes = kernel_size.axes;
  geometry.stride.value.fill(1);
  geometry.Check();  // before the values are multiplied
  for (int axis = 0; axis < kernel_size.axes; ++axis) {
    if (kernel_size[axis] % 2 == 0) {
      ThrowInvalid("kernel_size ", ToString(kernel_size),
                   ": a submanifold convolution needs odd sizes");
    }
    geometry.padding[axis] = kernel_size[axis] / 2 * dilation[axis];
  }
  geometry.Check();
  return geometry;
}

}  // namespace rulebook
