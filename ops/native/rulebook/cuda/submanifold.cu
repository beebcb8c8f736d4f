// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// The submanifold rulebook without a word to the host: every size is known beforehand.
#include "columns.h"
#include "coords_text.h"
#include "device.h"
#include "grid_key.h"
#include "rulebook/rulebook.h"
#include "site_table.h"

namespace rulebook {
namespace cuda {
namespace {

struct SubmanifoldKernel {
  uint32_t size[kMaxAxes];
  int64_t dilation[kMaxAxes];
};

// One thread for each output row o and, along y, each offset k up to the centre. If i feeds o
// through k, then o feeds i through the offset opposite to k: one search gives both. A canonical
// input makes every cell written once at most.
template <int kColumns>
__global__ void FindNeighbors(const int32_t* coords, int64_t rows, KeyGrid grid,
                              SubmanifoldKernel kernel, SiteTableView table, int32_t* neighbors) {
  const int64_t o = GlobalThread();
  if (o >= rows) return;
  const int64_t k = blockIdx.y;
  const int64_t centre = gridDim.y - 1;
  if (k == centre) {
    neighbors[centre * rows + o] = static_cast<int32_t>(o);
    return;
  }
  int64_t site[kColumns];
  site[0] = coords[o * kColumns];
  uint32_t rest = blockIdx.y;  // 32 bits, as their division is much the faster
#pragma unroll
  for (int axis = kColumns - 2; axis >= 0; --axis) {
    const uint32_t size = kernel.size[axis];
    const int64_t cell = int64_t{rest % size} - int64_t{size / 2};
    rest /= size;
    site[1 + axis] = coords[o * kColumns + 1 + axis] + cell * kernel.dilation[axis];
  }
  uint64_t key = 0;
  const int32_t i = PackSite<kColumns>(grid, site, &key) ? Find(table, key) : -1;
  neighbors[k * rows + o] = i;
  // Volatile, as sites that occur twice make two threads write one cell.
  if (i >= 0) StoreVolatile(&neighbors[(2 * centre - k) * rows + i], static_cast<int32_t>(o));
}

}  // namespace
}  // namespace cuda

template <>
void SubmanifoldRulebook<Device::kCuda>(CudaContext& context, CoordsView coords,
                                        const SpatialShape& shape, const PerAxis& kernel_size,
                                        const PerAxis& dilation, int32_t* neighbors) {
  const ConvGeometry geometry = SubmanifoldGeometry(kernel_size, dilation);
  geometry.OutputShape(shape);
  cpu::CheckCoordsView("coords", coords);
  const int64_t volume = geometry.KernelVolume();
  CheckedProduct(volume, coords.rows, kMaxRulebookCells, "rulebook cells (K * M)");
  if (coords.rows == 0) return;
  const cuda::KeyGrid grid = cuda::MakeKeyGrid(shape);
  const cuda::SiteTable table(context, coords, grid);
  cuda::SubmanifoldKernel kernel{};
  for (int axis = 0; axis < coords.axes; ++axis) {
    kernel.size[axis] = static_cast<uint32_t>(kernel_size[axis]);
    kernel.dilation[axis] = dilation[axis];
  }
  const int64_t centre = volume / 2;
  cuda::FillBytes(context, neighbors + (centre + 1) * coords.rows, 0xFF, centre * coords.rows);
  cuda::LaunchShape launch = cuda::OneThreadEach(coords.rows);
  launch.blocks_y = centre + 1;
  WithColumns(coords.columns(), [&](auto columns) {
    cuda::Launch(context, launch, &cuda::FindNeighbors<columns>, coords.data, coords.rows, grid,
                 kernel, table.view(), neighbors);
  });
}

}  // namespace rulebook
