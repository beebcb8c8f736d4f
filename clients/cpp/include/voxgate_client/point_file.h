// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// Headerless point-cloud files: KITTI's .bin and nuScenes' .pcd.bin.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace voxgate {

// Points and the names of their columns; the first three are x, y, z in metres.
struct PointCloud {
  std::vector<std::string> fields;
  std::vector<float> values;  // [N, fields.size()]

  size_t columns() const { return fields.size(); }
  size_t count() const { return fields.empty() ? 0 : values.size() / fields.size(); }
};

// Reads rows of little-endian float32.
//
// columns: values per point, 3 to 256. 0 decides as the Python client does: a `.pcd.bin` is
// nuScenes' (5: x, y, z, intensity, ring); any other file has the one of 4 (KITTI: x, y, z,
// intensity) and 5 that divides its size; where both do, 5 if every fifth value is a whole number
// below 256, as rings are. Non-finite values are kept: sensors send them for rays without a return.
//
// Throws FileError: no regular file, unreadable, more than 2^27 points, or a size that is no whole
// number of points (truncated, or another number of columns).
PointCloud ReadBin(const std::string& path, size_t columns = 0);

}  // namespace voxgate
