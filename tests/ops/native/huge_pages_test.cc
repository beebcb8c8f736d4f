// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// Advice on large pages: what Linux notes of it in /proc/self/smaps. Compiled in, as the operator
// library shows none of it.
#include "../../../ops/native/onnxruntime/huge_pages.cc"

#include "check.h"
#include "page_flags.h"

#ifdef MADV_HUGEPAGE

using support::IsAdvised;
using support::SystemHasLargePages;

namespace {

constexpr int64_t kMiB = int64_t{1} << 20;

class Mapping {
 public:
  explicit Mapping(int64_t bytes)
      : bytes_(static_cast<size_t>(bytes)),
        memory_(mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)) {
    CHECK(memory_ != MAP_FAILED);
  }
  ~Mapping() { munmap(memory_, bytes_); }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;

  char* at(int64_t offset) const { return static_cast<char*>(memory_) + offset; }

 private:
  const size_t bytes_;
  void* const memory_;
};

}  // namespace

TEST(LargeMemoryAndWhatSharesItsPagesIsAdvised) {
  const Mapping mapping(8 * kMiB);
  char* const inside = mapping.at(3 * kMiB + 12345);
  CHECK(!IsAdvised(inside));
  voxgate::AdviseHugePages(inside, kMiB);
  CHECK_EQ(IsAdvised(inside), SystemHasLargePages());
  CHECK_EQ(IsAdvised(inside + kMiB - 1), SystemHasLargePages());
  CHECK(!IsAdvised(mapping.at(0)));
  CHECK(!IsAdvised(mapping.at(8 * kMiB - 1)));
}

TEST(SmallMemoryIsLeftAlone) {
  const Mapping mapping(4 * kMiB);
  voxgate::AdviseHugePages(mapping.at(0), 100'000);
  voxgate::AdviseHugePages(mapping.at(0), 0);
  voxgate::AdviseHugePages(nullptr, 0);
  CHECK(!IsAdvised(mapping.at(0)));
}

TEST(WhatLiesBesideMayBeNoMemory) {
  // The first and the last page of a mapping that begins and ends inside of large pages.
  const Mapping mapping(5 * kMiB);
  munmap(mapping.at(2 * kMiB), kMiB);
  voxgate::AdviseHugePages(mapping.at(0), 2 * kMiB);
  voxgate::AdviseHugePages(mapping.at(3 * kMiB), 2 * kMiB);
  *mapping.at(0) = 1;
  *mapping.at(5 * kMiB - 1) = 1;
  CHECK_EQ(IsAdvised(mapping.at(0)), SystemHasLargePages());
  CHECK_EQ(IsAdvised(mapping.at(5 * kMiB - 1)), SystemHasLargePages());
}

#endif
