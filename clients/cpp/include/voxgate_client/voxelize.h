// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// Points to sparse voxels on the client, with the semantics of the `Voxelize` operator and the
// bytes of the Python client.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace voxgate {

// A metric grid of 1 to 4 axes.
struct VoxelGrid {
  std::vector<double> point_range;  // lo_x, lo_y, lo_z, hi_x, hi_y, hi_z in metres
  std::vector<double> voxel_size;   // x, y, z in metres

  size_t axes() const { return voxel_size.size(); }

  // Cells per axis in coords order (z, y, x): round((hi - lo) / voxel_size).
  //
  // Throws Error (INVALID_ARGUMENT): sizes disagree, a value is not finite in float32, hi <= lo,
  // voxel_size <= 0, an axis of no cell or more than 2^31 - 1, or more than 2^63 - 1 cells.
  std::vector<int64_t> Shape() const;
};

// The active sites of one frame, each once.
struct Voxels {
  size_t axes = 0;
  size_t columns = 0;           // features per site
  std::vector<int32_t> coords;  // [N, axes] in z, y, x order, no batch column
  std::vector<float> features;  // [N, columns]

  size_t count() const { return axes == 0 ? 0 : coords.size() / axes; }
  // Whether int16 holds every coordinate, as for any grid a sensor sees: then they are sent so.
  bool FitsInt16() const;
};

// Averages the points of each voxel, all columns, in float64 and in the order of the points.
//
// A point's index on an axis is floor((p - lo) / voxel_size) in float32, and the point counts iff
// that lies in the grid; NaN does not. Sites come in canonical order.
//
// points: [count, columns] with x, y, z in the first grid.axes() columns.
// Throws Error (INVALID_ARGUMENT): as VoxelGrid::Shape, or fewer columns than axes.
Voxels Voxelize(const float* points, size_t count, size_t columns, const VoxelGrid& grid);

}  // namespace voxgate
