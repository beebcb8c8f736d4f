// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// Owning wrappers of the library's calls, so that a test reads as inputs and results.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <vector>

#include "rulebook/context.h"
#include "rulebook/convolution.h"
#include "rulebook/coords.h"
#include "rulebook/rulebook.h"

namespace support {

constexpr rulebook::Device kCpu = rulebook::Device::kCpu;

inline rulebook::PerAxis Axes(std::initializer_list<int64_t> values) {
  rulebook::PerAxis result;
  for (const int64_t value : values) result[result.axes++] = value;
  return result;
}

inline rulebook::PerAxis Same(int axes, int64_t value) {
  rulebook::PerAxis result;
  while (result.axes < axes) result[result.axes++] = value;
  return result;
}

struct Coords {
  int axes = 3;
  std::vector<int32_t> values;

  int64_t rows() const { return static_cast<int64_t>(values.size()) / (axes + 1); }
  rulebook::CoordsView view() const { return {values.data(), rows(), axes}; }
  bool operator==(const Coords& other) const {
    return axes == other.axes && values == other.values;
  }
};

// A small generator with a fixed definition: the standard distributions differ between libraries.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed * 0x9E3779B97F4A7C15U + 1) {}
  uint32_t Next() {
    state_ = state_ * 6364136223846793005U + 1442695040888963407U;
    return static_cast<uint32_t>(state_ >> 33U);
  }
  int64_t Below(int64_t bound) { return static_cast<int64_t>(Next()) % bound; }
  float Float() { return static_cast<float>(Next() % 2001) / 1000.0F - 1.0F; }
  std::vector<float> Floats(int64_t count) {
    std::vector<float> values(static_cast<size_t>(count));
    for (float& value : values) value = Float();
    return values;
  }

 private:
  uint64_t state_;
};

// Every cell of the grid is a site with probability 1 / `sparsity`: canonical by construction.
inline Coords RandomSites(int64_t batch_size, const rulebook::SpatialShape& shape, int64_t sparsity,
                          uint64_t seed) {
  Coords coords;
  coords.axes = shape.axes;
  Random random(seed);
  int64_t volume = 1;
  for (int axis = 0; axis < shape.axes; ++axis) volume *= shape[axis];
  std::vector<int32_t> site(static_cast<size_t>(shape.axes));
  for (int64_t batch = 0; batch < batch_size; ++batch) {
    for (int64_t cell = 0; cell < volume; ++cell) {
      if (random.Below(sparsity) != 0) continue;
      int64_t rest = cell;
      for (int axis = shape.axes - 1; axis >= 0; --axis) {
        site[static_cast<size_t>(axis)] = static_cast<int32_t>(rest % shape[axis]);
        rest /= shape[axis];
      }
      coords.values.push_back(static_cast<int32_t>(batch));
      coords.values.insert(coords.values.end(), site.begin(), site.end());
    }
  }
  return coords;
}

struct Sorted {
  Coords coords;
  std::vector<int64_t> order;
  std::vector<int64_t> rank;
};

inline Sorted Sort(rulebook::CpuContext& context, const Coords& coords,
                   const rulebook::SpatialShape& shape,
                   rulebook::Duplicates duplicates = rulebook::Duplicates::kError) {
  Sorted result;
  result.coords.axes = coords.axes;
  result.rank.resize(static_cast<size_t>(coords.rows()));
  rulebook::SortSites<kCpu>(
      context, coords.view(), shape, duplicates, result.rank.data(), [&](int64_t rows) {
        result.coords.values.resize(static_cast<size_t>(rows * (coords.axes + 1)));
        result.order.resize(static_cast<size_t>(rows));
        return rulebook::SortedSites{result.coords.values.data(), result.order.data()};
      });
  return result;
}

inline std::vector<int32_t> Submanifold(rulebook::CpuContext& context, const Coords& coords,
                                        const rulebook::SpatialShape& shape,
                                        const rulebook::PerAxis& kernel_size) {
  const rulebook::PerAxis dilation = Same(shape.axes, 1);
  const int64_t volume = rulebook::SubmanifoldGeometry(kernel_size, dilation).KernelVolume();
  std::vector<int32_t> neighbors(static_cast<size_t>(volume * coords.rows()));
  rulebook::SubmanifoldRulebook<kCpu>(context, coords.view(), shape, kernel_size, dilation,
                                      neighbors.data());
  return neighbors;
}

struct Rulebook {
  Coords out_coords;
  std::vector<int32_t> neighbors;
};

inline Rulebook Sparse(rulebook::CpuContext& context, const Coords& coords,
                       const rulebook::SpatialShape& shape,
                       const rulebook::ConvGeometry& geometry) {
  Rulebook result;
  result.out_coords.axes = coords.axes;
  rulebook::SparseRulebook<kCpu>(context, coords.view(), shape, geometry, [&](int64_t rows) {
    result.out_coords.values.resize(static_cast<size_t>(rows * (coords.axes + 1)));
    result.neighbors.resize(static_cast<size_t>(rows * geometry.KernelVolume()));
    return rulebook::GeneratedSites{result.out_coords.values.data(), result.neighbors.data()};
  });
  return result;
}

inline rulebook::ConvGeometry Geometry(int axes, int64_t kernel, int64_t stride, int64_t padding) {
  rulebook::ConvGeometry geometry;
  geometry.kernel_size = Same(axes, kernel);
  geometry.stride = Same(axes, stride);
  geometry.padding = Same(axes, padding);
  geometry.dilation = Same(axes, 1);
  geometry.output_padding = Same(axes, 0);
  return geometry;
}

inline std::vector<float> Convolve(rulebook::CpuContext& context,
                                   const std::vector<float>& features, int64_t inputs,
                                   const std::vector<int32_t>& neighbors, int64_t outputs,
                                   const rulebook::WeightShape& shape,
                                   const rulebook::PackedWeight<kCpu, float>& weight) {
  rulebook::ConvInputs<float> in;
  in.features = features.data();
  in.inputs = inputs;
  in.neighbors = neighbors.data();
  in.outputs = outputs;
  in.activation.kind = rulebook::ActivationKind::kRelu;
  std::vector<float> out(static_cast<size_t>(outputs * shape.out_channels));
  rulebook::SparseConv<kCpu, float>(context, in, weight, out.data());
  return out;
}

}  // namespace support
