// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#include "rulebook/shape.h"

#include <limits>

namespace rulebook {

std::string ToString(const PerAxis& values) {
  std::string text = "[";
  for (int axis = 0; axis < values.axes; ++axis) {
    if (axis > 0) text += ", ";
    text += std::to_string(values[axis]);
  }
  return text + "]";
}

int64_t CheckedProduct(int64_t a, int64_t b, int64_t limit, const char* what) {
  if (a < 0 || b < 0) ThrowInvalid(what, ": ", a, " x ", b, " has a negative factor");
  if (b != 0 && a > limit / b) {
    ThrowTooLarge(what, ": ", a, " x ", b, " is over the limit ", limit);
  }
  return a * b;
}

void CheckSpatialShape(const SpatialShape& shape) {
  if (shape.axes < 1 || shape.axes > kMaxAxes) {
    ThrowInvalid("spatial_shape: ", shape.axes, " axes, expected 1 to ", kMaxAxes);
  }
  constexpr int64_t kMaxSize = std::numeric_limits<int32_t>::max();
  constexpr int64_t kMaxVolume = std::numeric_limits<int64_t>::max() / kMaxBatchSize;
  int64_t volume = 1;
  for (int axis = 0; axis < shape.axes; ++axis) {
    const int64_t size = shape[axis];
    if (size < 1 || size > kMaxSize) {
      ThrowInvalid("spatial_shape ", ToString(shape), ": axis ", axis, " has size ", size,
                   ", not in [1, ", kMaxSize, "]");
    }
    if (volume > kMaxVolume / size) {
      ThrowInvalid("spatial_shape ", ToString(shape), ": more than ", kMaxVolume,
                   " cells, so a site and its batch index do not fit 64 bits");
    }
    volume *= size;
  }
}

}  // namespace rulebook
