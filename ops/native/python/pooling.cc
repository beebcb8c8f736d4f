// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#include "rulebook/pooling.h"

#include <nanobind/stl/string.h>

#include "arrays.h"
#include "bindings.h"
#include "threads.h"

namespace voxgate {
namespace {

using rulebook::Device;
using rulebook::PoolMode;

constexpr std::array<std::pair<std::string_view, PoolMode>, 3> kModes{{
    {"max", PoolMode::kMax},
    {"avg", PoolMode::kAvg},
    {"sum", PoolMode::kSum},
}};

nb::ndarray<nb::numpy, float> SparsePool(const Array<float>& features,
                                         const Array<int32_t>& neighbors, const std::string& mode,
                                         int threads) {
  Expect(features, "features", {kAny, kAny});
  Expect(neighbors, "neighbors", {kAny, kAny});
  const PoolMode pool_mode = Choose(mode, "mode", kModes);
  Output<float> out({Size(neighbors, 1), Size(features, 1)});
  RunReleased(threads, [&](rulebook::CpuContext& context) {
    rulebook::SparsePool<Device::kCpu, float>(
        context, features.data(), Size(features, 0), Size(features, 1), neighbors.data(),
        Size(neighbors, 0), Size(neighbors, 1), pool_mode, out.data());
  });
  return out.Release();
}

nb::ndarray<nb::numpy, float> SparseGlobalPool(const Array<float>& features,
                                               const Array<int32_t>& coords, int64_t batch_size,
                                               const std::string& mode, int threads) {
  const rulebook::CoordsView sites = ToCoords(coords);
  Expect(features, "features", {sites.rows, kAny});
  if (batch_size < 0 || batch_size > rulebook::kMaxBatchSize) {
    rulebook::ThrowInvalid("batch_size ", batch_size, " is outside [0, ", rulebook::kMaxBatchSize,
                           "]");
  }
  const PoolMode pool_mode = Choose(mode, "mode", kModes);
  Output<float> out({batch_size, Size(features, 1)});
  RunReleased(threads, [&](rulebook::CpuContext& context) {
    rulebook::SparseGlobalPool<Device::kCpu, float>(context, features.data(), Size(features, 1),
                                                    sites, batch_size, pool_mode, out.data());
  });
  return out.Release();
}

}  // namespace

void BindPooling(nb::module_& module) {
  module.def("sparse_pool", &SparsePool, nb::arg("features").noconvert(),
             nb::arg("neighbors").noconvert(), nb::arg("mode"), nb::kw_only(),
             nb::arg("threads") = 0, "max, avg or sum over each output's active inputs: [M, C].");
  module.def("sparse_global_pool", &SparseGlobalPool, nb::arg("features").noconvert(),
             nb::arg("coords").noconvert(), nb::arg("batch_size"), nb::arg("mode"), nb::kw_only(),
             nb::arg("threads") = 0, "max, avg or sum over each frame's sites: [batch_size, C].");
}

}  // namespace voxgate
