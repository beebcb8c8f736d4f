// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// .bin files: how many columns they have, and what is no point cloud.
#include "voxgate_client/point_file.h"

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "check.h"
#include "voxgate_client/error.h"

namespace voxgate {
namespace {

using Fields = std::vector<std::string>;

// A file that is gone after the test.
class File {
 public:
  explicit File(const std::string& name, const std::vector<float>& values, size_t cut = 0)
      : folder_(std::filesystem::temp_directory_path() /
                ("voxgate_point_file_test." + std::to_string(getpid()))) {
    std::filesystem::create_directories(folder_);
    path_ = (folder_ / name).string();
    std::ofstream file(path_, std::ios::binary);
    file.write(reinterpret_cast<const char*>(values.data()),
               static_cast<std::streamsize>(values.size() * sizeof(float) - cut));
  }
  ~File() { std::filesystem::remove_all(folder_); }

  const std::string& path() const { return path_; }

 private:
  std::filesystem::path folder_;
  std::string path_;
};

// [count, columns] of values that are not whole, and `last` in the last column.
std::vector<float> Rows(size_t count, size_t columns, float last) {
  std::vector<float> values;
  for (size_t i = 0; i < count * columns; ++i) {
    values.push_back(i % columns == columns - 1 ? last : static_cast<float>(i) + 0.25F);
  }
  return values;
}

}  // namespace

TEST(KittiHasFourColumns) {
  const File file("a.bin", Rows(3, 4, 0.5F));
  const PointCloud cloud = ReadBin(file.path());
  CHECK(cloud.fields == (Fields{"x", "y", "z", "intensity"}));
  CHECK_EQ(cloud.count(), 3U);
  CHECK(cloud.values == Rows(3, 4, 0.5F));
}

TEST(NuscenesHasFiveColumns) {
  const File by_name("sweep.PCD.bin", Rows(4, 5, 0.5F));
  CHECK_EQ(ReadBin(by_name.path()).columns(), 5U);
  const File by_size("b.bin", Rows(3, 5, 7));
  CHECK(ReadBin(by_size.path()).fields == (Fields{"x", "y", "z", "intensity", "ring"}));
}

TEST(WhereBothFitRingsDecide) {
  const File rings("rings.bin", Rows(4, 5, 31));
  CHECK_EQ(ReadBin(rings.path()).columns(), 5U);
  const File none("none.bin", Rows(5, 4, 0.5F));
  CHECK_EQ(ReadBin(none.path()).columns(), 4U);
}

TEST(AnEmptyFileHasNoPoints) {
  const File file("empty.bin", {});
  CHECK_EQ(ReadBin(file.path()).count(), 0U);
  CHECK_EQ(ReadBin(file.path()).columns(), 4U);
}

TEST(ColumnsCanBeGiven) {
  const File file("a.bin", Rows(2, 6, 0.5F));
  CHECK(ReadBin(file.path(), 6).fields == (Fields{"x", "y", "z", "intensity", "ring", "field5"}));
  CHECK_EQ(ReadBin(file.path(), 3).count(), 4U);
}

TEST(TruncatedFilesAreRefused) {
  const File kitti("a.bin", Rows(3, 4, 0.5F), 2);
  CHECK_THROWS(FileError, "46 bytes is no whole number of points", ReadBin(kitti.path()));
  CHECK_THROWS(FileError, "14 bytes left over", ReadBin(kitti.path(), 4));
  const File nuscenes("a.pcd.bin", Rows(3, 5, 1), 4);
  CHECK_THROWS(FileError, "16 bytes left over", ReadBin(nuscenes.path()));
}

TEST(WhatIsNoFileIsRefused) {
  const File file("a.bin", {});
  CHECK_THROWS(FileError, "no such file", ReadBin(file.path() + ".not"));
  CHECK_THROWS(FileError, "no regular file",
               ReadBin(std::filesystem::temp_directory_path().string()));
  CHECK_THROWS(FileError, "no regular file", ReadBin("/dev/zero"));
}

TEST(ColumnsOutOfBoundsAreRefused) {
  const File file("a.bin", Rows(3, 4, 1));
  CHECK_THROWS(FileError, "columns is 2, expected 3 to 256", ReadBin(file.path(), 2));
  CHECK_THROWS(FileError, "columns is 257", ReadBin(file.path(), 257));
}

TEST(MorePointsThanASensorHasAreRefused) {
  const File file("huge.bin", {});
  std::filesystem::resize_file(file.path(), (uintmax_t{1} << 27) * 16 + 16);  // sparse
  CHECK_THROWS(FileError, "134217729 points, expected at most 134217728", ReadBin(file.path(), 4));
}

}  // namespace voxgate
