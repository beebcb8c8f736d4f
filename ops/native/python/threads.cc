// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#include "threads.h"

#include <algorithm>
#include <map>
#include <memory>
#include <mutex>
#include <thread>

#if defined(__linux__)
#include <pthread.h>
#include <sched.h>
#endif

namespace voxgate {
namespace {

constexpr int kMaxThreads = 1024;

struct Pools {
  std::mutex mutex;
  std::map<int, std::unique_ptr<rulebook::CpuContext>> by_threads;
};

// Never destroyed: at interpreter exit other threads may still be inside a call.
Pools* g_pools = nullptr;

// A forked child has none of its parent's threads, so it starts with no pools of its own.
void ForgetPools() { g_pools = new Pools; }

Pools& AllPools() {
  static const bool made = [] {
    ForgetPools();
#if defined(__linux__)
    pthread_atfork(nullptr, nullptr, ForgetPools);
#endif
    return true;
  }();
  static_cast<void>(made);
  return *g_pools;
}

int AvailableThreads() {
#if defined(__linux__)
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof(allowed), &allowed) == 0) return CPU_COUNT(&allowed);
#endif
  const auto count = static_cast<int>(std::thread::hardware_concurrency());  // 0: unknown
  return std::clamp(count, 1, kMaxThreads);
}

}  // namespace

rulebook::CpuContext& SharedPool(int threads) {
  if (threads < 0 || threads > kMaxThreads) {
    rulebook::ThrowInvalid("threads ", threads, " is outside [0, ", kMaxThreads, "]");
  }
  if (threads == 0) threads = AvailableThreads();
  Pools& pools = AllPools();
  const std::lock_guard<std::mutex> lock(pools.mutex);
  std::unique_ptr<rulebook::CpuContext>& pool = pools.by_threads[threads];
  if (pool == nullptr) pool = rulebook::MakeThreadPool(threads);
  return *pool;
}

}  // namespace voxgate
