// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// The float32 multiply-add rate of this machine: fma_peak THREADS SECONDS prints one JSON object.
// Every thread runs chains of dependent FMAs, enough of them side by side to hide the latency of
// two FMA units, on registers only. The instruction set is chosen at run time.
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

namespace {

constexpr int64_t kStepsPerBlock = 4096;

// A block's chains end in a sum that is stored, so that no compiler may drop them. Multiplier and
// addend keep every value at 1: no overflow, no denormal.
template <typename Vector, int kChains>
inline __attribute__((always_inline)) float RunChains(float one, float zero) {
  Vector accumulator[kChains];
  Vector multiplier, addend;
  for (size_t lane = 0; lane < sizeof(Vector) / sizeof(float); ++lane) {
    multiplier[lane] = one;
    addend[lane] = zero;
  }
  for (int c = 0; c < kChains; ++c) accumulator[c] = multiplier;
  for (int64_t step = 0; step < kStepsPerBlock; ++step) {
#pragma GCC unroll 32
    for (int c = 0; c < kChains; ++c) accumulator[c] = accumulator[c] * multiplier + addend;
  }
  float sum = 0;
  for (int c = 0; c < kChains; ++c) sum += accumulator[c][0];
  return sum;
}

typedef float Vector4 __attribute__((vector_size(16)));

struct Kernel {
  const char* name;
  float (*run)(float, float);
  int64_t flops_per_block;
};

constexpr int64_t Flops(int64_t lanes, int64_t chains) {
  return 2 * lanes * chains * kStepsPerBlock;
}

float RunPortable(float one, float zero) { return RunChains<Vector4, 12>(one, zero); }

#if defined(__x86_64__)
typedef float Vector8 __attribute__((vector_size(32)));
typedef float Vector16 __attribute__((vector_size(64)));

__attribute__((target("avx2,fma"))) float RunAvx2(float one, float zero) {
  return RunChains<Vector8, 12>(one, zero);
}

__attribute__((target("avx512f"))) float RunAvx512(float one, float zero) {
  return RunChains<Vector16, 24>(one, zero);
}
#endif

Kernel BestKernel() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f")) return {"avx512", RunAvx512, Flops(16, 24)};
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    return {"avx2", RunAvx2, Flops(8, 12)};
  }
#endif
  return {"portable", RunPortable, Flops(4, 12)};
}

}  // namespace

int main(int argc, char** argv) {
  const int threads = argc > 1 ? std::atoi(argv[1]) : 0;
  const double seconds = argc > 2 ? std::atof(argv[2]) : 0;
  if (threads < 1 || !(seconds > 0)) {
    std::fprintf(stderr, "usage: fma_peak THREADS SECONDS\n");
    return 2;
  }
  using Clock = std::chrono::steady_clock;
  const Kernel kernel = BestKernel();
  volatile float one = 1.0F, zero = 0.0F, sink = 0.0F;
  std::atomic<int> ready{0};
  std::atomic<int64_t> blocks{0};
  Clock::time_point start, stop;
  std::atomic<bool> go{false};
  std::vector<std::thread> pool;
  for (int t = 0; t < threads; ++t) {
    pool.emplace_back([&] {
      float sum = kernel.run(one, zero);  // warm: clock rate and code are settled before the start
      ready.fetch_add(1);
      while (!go.load(std::memory_order_acquire)) std::this_thread::yield();
      int64_t mine = 0;
      while (Clock::now() < stop) {
        for (int repeat = 0; repeat < 8; ++repeat, ++mine) sum += kernel.run(one, zero);
      }
      blocks.fetch_add(mine);
      sink = sum;
    });
  }
  while (ready.load() < threads) std::this_thread::yield();
  start = Clock::now();
  stop =
      start + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
  go.store(true, std::memory_order_release);
  for (std::thread& thread : pool) thread.join();
  const double elapsed = std::chrono::duration<double>(Clock::now() - start).count();
  std::printf("{\"isa\": \"%s\", \"threads\": %d, \"seconds\": %.6f, \"gflops\": %.3f}\n",
              kernel.name, threads, elapsed,
              static_cast<double>(blocks.load() * kernel.flops_per_block) / elapsed / 1e9);
  return 0;
}
