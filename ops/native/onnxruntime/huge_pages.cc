// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#include "huge_pages.h"

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace voxgate {

#ifdef MADV_HUGEPAGE

void AdviseHugePages(void* memory, int64_t bytes) {
  constexpr int64_t kLeast = int64_t{1} << 18;
  constexpr uintptr_t kPage = uintptr_t{1} << 21;
  if (bytes < kLeast) return;
  const auto address = reinterpret_cast<uintptr_t>(memory);
  const uintptr_t begin = address / kPage * kPage;
  const uintptr_t end = (address + static_cast<uintptr_t>(bytes) + kPage - 1) / kPage * kPage;
  // It is an advice: what of this range cannot take it goes without.
  static_cast<void>(madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE));
}

#else

void AdviseHugePages(void* /*memory*/, int64_t /*bytes*/) {}

#endif

}  // namespace voxgate
