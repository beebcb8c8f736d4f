// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#include "queue_log.h"

#include <dlfcn.h>
#include <link.h>

#include <cstdio>
#include <cstdlib>
#include <memory>

#include "emulator.h"

namespace cuda_emulation {
namespace {

struct Close {
  void operator()(FILE* file) const { std::fclose(file); }
};

// Null where nobody asked for a log.
FILE* Log() {
  static const std::unique_ptr<FILE, Close> file = [] {
    const char* path = std::getenv("VOXGATE_EMULATED_QUEUE");
    FILE* opened = path == nullptr ? nullptr : std::fopen(path, "w");
    if (opened != nullptr) std::setvbuf(opened, nullptr, _IOLBF, 0);  // whole even after a crash
    return std::unique_ptr<FILE, Close>(opened);
  }();
  return file.get();
}

}  // namespace

void LogLaunch(const Kernel& kernel) {
  FILE* log = Log();
  Dl_info info{};
  link_map* map = nullptr;
  if (log == nullptr ||
      dladdr1(kernel.function, &info, reinterpret_cast<void**>(&map), RTLD_DL_LINKMAP) == 0) {
    return;
  }
  const auto address = reinterpret_cast<uintptr_t>(kernel.function) - map->l_addr;
  std::fprintf(log, "launch %d %zu %zx %s\n", kernel.threads, kernel.shared_bytes,
               static_cast<size_t>(address), info.dli_fname);
}

void LogCall(const char* what) {
  if (FILE* log = Log()) std::fprintf(log, "%s\n", what);
}

}  // namespace cuda_emulation
