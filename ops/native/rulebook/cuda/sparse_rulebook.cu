// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// Regular and transposed rulebooks. Inputs say which output sites there are: those are gathered in
// a hash set, counted (the one read-back) and sorted. Outputs then look for their inputs.
#include <optional>

#include "axis_map.h"
#include "columns.h"
#include "coords_text.h"
#include "device.h"
#include "grid_key.h"
#include "key_set.h"
#include "rulebook/rulebook.h"
#include "site_scan.h"
#include "site_table.h"
#include "trie_descent.h"

namespace rulebook {
namespace cuda {
namespace {

struct Grids {
  KeyGrid in, out;
};

// One thread for each input row and, along y, each slot.
template <int kColumns>
__global__ void CollectOutputs(const int32_t* coords, int64_t rows, Grids grids, AxisMaps maps,
                               KeySetView outputs, int64_t* last_batch) {
  const int64_t row = GlobalThread();
  if (row == rows - 1 && blockIdx.y == 0) *last_batch = coords[row * kColumns];
  uint64_t key = 0;
  bool fed = row < rows;
  if (fed) {
    const int32_t* site = coords + row * kColumns;
    fed = PackSite<kColumns>(grids.in, site, &key);
    int64_t output[kColumns];
    output[0] = site[0];
    uint32_t rest = blockIdx.y;  // 32 bits, as their division is much the faster
#pragma unroll
    for (int axis = kColumns - 2; axis >= 0; --axis) {
      const AxisMap& map = maps.axis[axis];
      const auto slots = static_cast<uint32_t>(map.slots);
      const int64_t slot = rest % slots;
      rest /= slots;
      output[1 + axis] = OutputOf(map, maps.transposed, site[1 + axis], slot);
    }
    fed &= PackSite<kColumns>(grids.out, output, &key);
  }
  AddKeys(outputs, fed, key);
}

template <int kColumns>
__global__ void WriteSites(const uint64_t* keys, int64_t count, KeyGrid grid, int32_t* coords) {
  const int64_t row = GlobalThread();
  if (row < count) UnpackSite<kColumns>(grid, keys[row], coords + row * kColumns);
}

// One thread for each output row and, along y, each kernel offset.
template <int kColumns>
__global__ void FindInputs(const int32_t* out_coords, int64_t outputs, KeyGrid in_grid,
                           AxisMaps maps, SiteTableView table, int32_t* neighbors) {
  const int64_t o = GlobalThread();
  if (o >= outputs) return;
  const int32_t* site = out_coords + o * kColumns;
  int64_t input[kColumns];
  input[0] = site[0];
  uint32_t rest = blockIdx.y;
#pragma unroll
  for (int axis = kColumns - 2; axis >= 0; --axis) {
    const AxisMap& map = maps.axis[axis];
    const auto kernel = static_cast<uint32_t>(map.kernel);
    const int64_t k = rest % kernel;
    rest /= kernel;
    input[1 + axis] = InputOf(map, maps.transposed, site[1 + axis], k);
  }
  uint64_t key = 0;
  const bool inside = PackSite<kColumns>(in_grid, input, &key);
  neighbors[static_cast<int64_t>(blockIdx.y) * outputs + o] = inside ? Find(table, key) : -1;
}

void CheckCoords(CoordsView coords, const SpatialShape& shape) {
  if (shape.axes != coords.axes) {
    ThrowInvalid("coords: ", coords.axes, " spatial axes, but spatial_shape ", ToString(shape),
                 " has ", shape.axes);
  }
  cpu::CheckCoordsView("coords", coords);
}

void FillNeighbors(CudaContext& context, CoordsView coords, const SpatialShape& input_shape,
                   const ConvGeometry& geometry, CoordsView out_coords, int32_t* neighbors) {
  if (out_coords.rows == 0) return;
  const KeyGrid grid = MakeKeyGrid(input_shape);
  const SiteTable table(context, coords, grid);
  LaunchShape launch = OneThreadEach(out_coords.rows);
  launch.blocks_y = geometry.KernelVolume();
  WithColumns(coords.columns(), [&](auto columns) {
    Launch(context, launch, &FindInputs<columns>, out_coords.data, out_coords.rows, grid,
           MakeAxisMaps(geometry), table.view(), neighbors);
  });
}

// What is read back.
struct Generated {
  SiteReport input;
  int64_t sites;
  int64_t last_batch;  // the highest: fewer bits to sort by
};

// Writes the sorted keys of all output sites to what `allocate(count)` returns.
int64_t GenerateKeys(CudaContext& context, CoordsView coords, const SpatialShape& input_shape,
                     const ConvGeometry& geometry, const SpatialShape& out_shape,
                     FunctionRef<uint64_t*(int64_t)> allocate) {
  const AxisMaps maps = MakeAxisMaps(geometry);
  const int64_t volume = geometry.KernelVolume();
  const Scratch<Generated> generated(context, 1);
  FillBytes(context, generated.get(), 0, 1);
  ScanSites(context, coords, input_shape, &generated.get()->input, nullptr, nullptr);
  LaunchShape launch = OneThreadEach(coords.rows);
  launch.blocks_y = Slots(maps, coords.axes);
  const KeySet outputs(context, coords.rows * launch.blocks_y, cpu::MaxGeneratedSites(volume),
                       &generated.get()->sites);
  WithColumns(coords.columns(), [&](auto columns) {
    Launch(context, launch, &CollectOutputs<columns>, coords.data, coords.rows,
           Grids{MakeKeyGrid(input_shape), MakeKeyGrid(out_shape)}, maps, outputs.view(),
           &generated.get()->last_batch);
  });
  const Generated found = ReadBack(context, generated.get());
  CheckCanonical(context, coords, input_shape, found.input);
  if (found.sites > cpu::MaxGeneratedSites(volume)) cpu::ThrowTooManySites(volume);
  SortKeys(context, outputs.keys(), allocate(found.sites), found.sites,
           KeyBits(out_shape, found.last_batch + 1));
  return found.sites;
}

}  // namespace
}  // namespace cuda

template <>
void SparseRulebook<Device::kCuda>(CudaContext& context, CoordsView coords,
                                   const SpatialShape& input_shape, const ConvGeometry& geometry,
                                   FunctionRef<GeneratedSites(int64_t)> allocate) {
  geometry.Check();
  const SpatialShape out_shape = geometry.OutputShape(input_shape);
  cuda::CheckCoords(coords, input_shape);
  if (coords.rows == 0) {
    allocate(0);
    return;
  }
  std::optional<cuda::Scratch<uint64_t>> keys;
  const int64_t sites =
      cuda::GenerateKeys(context, coords, input_shape, geometry, out_shape, [&](int64_t count) {
        keys.emplace(context, count);
        return keys->get();
      });
  const GeneratedSites result = allocate(sites);
  WithColumns(coords.columns(), [&](auto columns) {
    cuda::Launch(context, cuda::OneThreadEach(sites), &cuda::WriteSites<columns>, keys->get(),
                 sites, cuda::MakeKeyGrid(out_shape), result.coords);
  });
  keys.reset();
  cuda::FillNeighbors(context, coords, input_shape, geometry, {result.coords, sites, coords.axes},
                      result.neighbors);
}

template <>
void SparseRulebookAt<Device::kCuda>(CudaContext& context, CoordsView coords,
                                     const SpatialShape& input_shape, const ConvGeometry& geometry,
                                     CoordsView out_coords, int32_t* neighbors) {
  geometry.Check();
  const SpatialShape out_shape = geometry.OutputShape(input_shape);
  CheckedProduct(geometry.KernelVolume(), out_coords.rows, kMaxRulebookCells,
                 "rulebook cells (K * M)");
  cuda::CheckCoords(coords, input_shape);
  cuda::CheckCoords(out_coords, out_shape);
  cuda::FillNeighbors(context, coords, input_shape, geometry, out_coords, neighbors);
}

}  // namespace rulebook
