// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#include <vector>

#include "check.h"
#include "device_support.h"
#include "rulebook/rulebook.h"

using rulebook::CudaContext;
using support::DeviceArray;
using support::kCuda;

namespace {

std::vector<int32_t> InverseOnDevice(CudaContext& context, const std::vector<int32_t>& neighbors,
                                     int64_t volume, int64_t inputs) {
  const DeviceArray<int32_t> from(context, neighbors);
  const DeviceArray<int32_t> inverse(context, volume * inputs);
  rulebook::InverseRulebook<kCuda>(context, from.get(), volume,
                                   static_cast<int64_t>(neighbors.size()) / volume, inputs,
                                   inverse.get());
  return inverse.Read();
}

void CheckInverse(const std::vector<int32_t>& neighbors, int64_t volume, int64_t inputs) {
  const auto pool = rulebook::MakeThreadPool(1);
  std::vector<int32_t> expected(static_cast<size_t>(volume * inputs));
  rulebook::InverseRulebook<support::kCpu>(*pool, neighbors.data(), volume,
                                           static_cast<int64_t>(neighbors.size()) / volume, inputs,
                                           expected.data());
  support::OnDevices([&](CudaContext& context) {
    CHECK(InverseOnDevice(context, neighbors, volume, inputs) == expected);
  });
}

}  // namespace

TEST(InverseLikeTheCpu) {
  const auto pool = rulebook::MakeThreadPool(1);
  for (const support::SiteCase& c : support::SiteCases()) {
    const int axes = c.shape.axes;
    for (const bool transposed : {false, true}) {
      if (transposed && c.coords.rows() > 19) continue;
      rulebook::ConvGeometry geometry = support::Geometry(axes, axes < 4 ? 3 : 2, 2, 1);
      geometry.transposed = transposed;
      const support::Rulebook down = support::Sparse(*pool, c.coords, c.shape, geometry);
      CheckInverse(down.neighbors, geometry.KernelVolume(), c.coords.rows());
    }
  }
}

TEST(MoreOffsetsThanRowsOfBlocks) {
  constexpr int64_t kVolume = 600;
  std::vector<int32_t> neighbors(kVolume, -1);
  for (size_t k = 0; k < neighbors.size(); k += 3) neighbors[k] = static_cast<int32_t>(k % 2);
  CheckInverse(neighbors, kVolume, 2);
}

TEST(ARulebookThatWouldFillMemoryIsAnError) {
  support::CheckSameError(
      [](rulebook::CpuContext& pool) {
        rulebook::InverseRulebook<support::kCpu>(pool, nullptr, 27, 0, 1 << 26, nullptr);
      },
      [](CudaContext& context) {
        rulebook::InverseRulebook<kCuda>(context, nullptr, 27, 0, 1 << 26, nullptr);
      });
}

// Nothing is read back, so nothing can be said of such rows; memory beside the result is safe.
TEST(RowsThatAreNoInputs) {
  const std::vector<int32_t> neighbors = {2, 3, -2, 0, 2147483647, -2147483647, 1, 1};
  support::OnDevices([&](CudaContext& context) {
    const std::vector<int32_t> inverse = InverseOnDevice(context, neighbors, 2, 3);
    CHECK((std::vector<int32_t>(inverse.begin(), inverse.begin() + 4) ==
           std::vector<int32_t>{3, -1, 0, -1}));
    CHECK(inverse[4] == 2 || inverse[4] == 3);
    CHECK_EQ(inverse[5], -1);
  });
}
