// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// What Linux says of the pages of this process in /proc/self/smaps.
#pragma once

#include <cstdint>
#include <cstdio>
#include <fstream>
#include <string>

#include "check.h"

namespace support {

// Whether large pages were asked for at `address`.
inline bool IsAdvised(const void* address) {
  const auto wanted = reinterpret_cast<uintptr_t>(address);
  std::ifstream smaps("/proc/self/smaps");
  bool here = false;
  for (std::string line; std::getline(smaps, line);) {
    unsigned long begin = 0, end = 0;
    if (std::sscanf(line.c_str(), "%lx-%lx ", &begin, &end) == 2) {
      here = begin <= wanted && wanted < end;
    } else if (here && line.rfind("VmFlags:", 0) == 0) {
      return (line + " ").find(" hg ") != std::string::npos;
    }
  }
  throw check::Failure("no flags of that page in /proc/self/smaps");
}

inline bool SystemHasLargePages() {
  return std::ifstream("/sys/kernel/mm/transparent_hugepage/enabled").good();
}

}  // namespace support
