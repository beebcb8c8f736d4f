// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#include "voxgate_client/point_file.h"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <system_error>

#include "host.h"
#include "text.h"

namespace voxgate {
namespace {

// The largest sensors give a few million points a sweep: above this, it is another kind of file.
constexpr uintmax_t kMaxPoints = uintmax_t{1} << 27;
constexpr size_t kMaxColumns = 256;
constexpr size_t kValueBytes = sizeof(float);

uintmax_t FileSize(const std::string& path) {
  std::error_code error;
  const auto status = std::filesystem::status(path, error);
  if (!std::filesystem::exists(status)) throw FileError(path, "there is no such file");
  if (error) throw FileError(path, error.message());
  if (!std::filesystem::is_regular_file(status)) throw FileError(path, "this is no regular file");
  const uintmax_t size = std::filesystem::file_size(path, error);
  if (error) throw FileError(path, error.message());
  return size;
}

bool EndsWith(const std::string& path, const std::string& suffix) {
  if (path.size() < suffix.size()) return false;
  return std::equal(suffix.rbegin(), suffix.rend(), path.rbegin(),
                    [](char a, char b) { return a == (b >= 'A' && b <= 'Z' ? b - 'A' + 'a' : b); });
}

std::vector<float> ReadFloats(const std::string& path, uintmax_t size) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw FileError(path, std::strerror(errno));
  std::vector<float> values(static_cast<size_t>(size) / kValueBytes);
  const auto wanted = static_cast<std::streamsize>(values.size() * kValueBytes);
  file.read(reinterpret_cast<char*>(values.data()), wanted);
  if (file.gcount() != wanted || file.peek() != std::ifstream::traits_type::eof()) {
    throw FileError(path, Text("changed while being read: it had ", size, " bytes"));
  }
  return values;
}

// Whether every fifth value is a ring number, as nuScenes has it: coordinates are not whole.
bool HasRings(const std::vector<float>& values) {
  for (size_t i = 4; i < values.size(); i += 5) {
    if (!(values[i] >= 0 && values[i] < 256 && std::floor(values[i]) == values[i])) return false;
  }
  return values.size() >= 5;
}

void CheckSize(const std::string& path, uintmax_t size, size_t columns) {
  const size_t row_bytes = kValueBytes * columns;
  if (size % row_bytes != 0) {
    throw FileError(path, Text(size, " bytes is no whole number of points of ", columns,
                               " float32 (", row_bytes, " bytes): ", size % row_bytes,
                               " bytes left over; the file is truncated, or has another number of "
                               "columns (--columns)"));
  }
  if (size / row_bytes > kMaxPoints) {
    throw FileError(path, Text(size / row_bytes, " points, expected at most ", kMaxPoints));
  }
}

// 4 or 5; 0: by the file's size it may be both.
size_t ColumnsBySize(const std::string& path, uintmax_t size) {
  if (EndsWith(path, ".pcd.bin")) return 5;
  const bool four = size % (4 * kValueBytes) == 0;
  const bool five = size % (5 * kValueBytes) == 0;
  if (!four && !five) {
    throw FileError(path, Text(size,
                               " bytes is no whole number of points of 4 (16 bytes) or 5 (20 "
                               "bytes) float32: the file is truncated, or has another number of "
                               "columns (--columns)"));
  }
  if (four && five) return 0;
  return four ? 4 : 5;
}

}  // namespace

PointCloud ReadBin(const std::string& path, size_t columns) {
  if (columns != 0 && (columns < 3 || columns > kMaxColumns)) {
    throw FileError(path, Text("columns is ", columns, ", expected 3 to ", kMaxColumns));
  }
  const uintmax_t size = FileSize(path);
  if (columns == 0) columns = ColumnsBySize(path, size);
  CheckSize(path, size, columns == 0 ? 4 : columns);
  PointCloud cloud;
  cloud.values = ReadFloats(path, size);
  if (columns == 0) columns = HasRings(cloud.values) ? 5 : 4;
  const std::vector<std::string> names = {"x", "y", "z", "intensity", "ring"};
  for (size_t c = 0; c < columns; ++c) {
    cloud.fields.push_back(c < names.size() ? names[c] : Text("field", c));
  }
  return cloud;
}

}  // namespace voxgate
