// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#include "device.h"
#include "rulebook/rulebook.h"

namespace rulebook {
namespace cuda {
namespace {

constexpr int64_t kBlocksY = 256;  // whatever the kernel volume, which nobody has checked

// One thread for each output row; kernel offsets along y, as many turns as they need.
__global__ void ScatterOutputs(const int32_t* neighbors, int64_t volume, int64_t outputs,
                               int64_t inputs, int32_t* inverse) {
  const int64_t o = GlobalThread();
  if (o >= outputs) return;
  for (int64_t k = blockIdx.y; k < volume; k += gridDim.y) {
    const int32_t i = neighbors[k * outputs + o];
    // Volatile, as an input row that an offset has twice makes two threads write one cell.
    if (i >= 0 && i < inputs) StoreVolatile(&inverse[k * inputs + i], static_cast<int32_t>(o));
  }
}

}  // namespace
}  // namespace cuda

template <>
void InverseRulebook<Device::kCuda>(CudaContext& context, const int32_t* neighbors,
                                    int64_t kernel_volume, int64_t outputs, int64_t inputs,
                                    int32_t* inverse) {
  const int64_t cells =
      CheckedProduct(kernel_volume, inputs, kMaxRulebookCells, "rulebook cells (K * N)");
  cuda::FillBytes(context, inverse, 0xFF, cells);
  cuda::LaunchShape launch = cuda::OneThreadEach(outputs);
  launch.blocks_y = std::min(kernel_volume, cuda::kBlocksY);
  cuda::Launch(context, launch, &cuda::ScatterOutputs, neighbors, kernel_volume, outputs, inputs,
               inverse);
}

}  // namespace rulebook
