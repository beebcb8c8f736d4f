// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// What kernels use, held to CUDA's definition of it.
#include <cmath>
#include <cstdint>
#include <limits>
#include <set>
#include <string>
#include <vector>

#include "check.h"
#include "device.h"
#include "element.h"
#include "support.h"

using cuda_emulation::Fault;
using rulebook::CudaContext;
using rulebook::cuda::Launch;
using rulebook::cuda::LaunchShape;
using rulebook::cuda::OneThreadEach;
using support::Random;

namespace {

constexpr unsigned kAll = 0xFFFFFFFFU;

// One warp; results[t] is what thread t computes.
template <typename Kernel>
std::vector<int32_t> OneWarp(Kernel kernel, uint64_t seed = 1) {
  const auto context = cuda_emulation::MakeContext(seed);
  std::vector<int32_t> results(32);
  Launch(*context, OneThreadEach(32, 32), kernel, results.data());
  return results;
}

template <typename Expect>
void CheckLanes(const std::vector<int32_t>& results, const Expect& expect) {
  for (int lane = 0; lane < 32; ++lane) CHECK_EQ(results[static_cast<size_t>(lane)], expect(lane));
}

void MarkCells(int32_t* cells) {
  const auto block = (int64_t{blockIdx.z} * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  cells[block * blockDim.x + threadIdx.x] += 1;
}

void TakeTickets(int32_t* next, int32_t* ticket) {
  ticket[rulebook::cuda::GlobalThread()] = rulebook::cuda::AtomicAdd(next, 1);
}

std::vector<int32_t> Tickets(uint64_t seed) {
  const auto context = cuda_emulation::MakeContext(seed);
  int32_t next = 0;
  std::vector<int32_t> ticket(3 * 64);
  Launch(*context, OneThreadEach(3 * 64, 64), &TakeTickets, &next, ticket.data());
  return ticket;
}

}  // namespace

TEST(EveryThreadOfAGridRunsOnce) {
  const auto context = cuda_emulation::MakeContext(1);
  LaunchShape shape;
  shape.blocks_x = 3;
  shape.blocks_y = 4;
  shape.blocks_z = 2;
  shape.threads = 96;
  std::vector<int32_t> cells(3 * 4 * 2 * 96);
  Launch(*context, shape, &MarkCells, cells.data());
  for (const int32_t cell : cells) CHECK_EQ(cell, 1);
  shape.blocks_y = 0;
  Launch(*context, shape, &MarkCells, static_cast<int32_t*>(nullptr));
  shape.blocks_y = 1;
  shape.threads = 33;
  CHECK_THROWS(rulebook::Error, "33 threads", Launch(*context, shape, &MarkCells, cells.data()));
}

TEST(TheSeedDecidesTheOrder) {
  CHECK(Tickets(1) == Tickets(1));
  CHECK(Tickets(1) != Tickets(2));
  CHECK(Tickets(2) != Tickets(3));
  const std::vector<int32_t> tickets = Tickets(4);
  CHECK_EQ(std::set<int32_t>(tickets.begin(), tickets.end()).size(), tickets.size());
}

TEST(Shuffles) {
  CheckLanes(OneWarp(+[](int32_t* out) {
               out[threadIdx.x] = __shfl_sync(kAll, static_cast<int>(threadIdx.x) * 3, 5);
             }),
             [](int) { return 15; });
  CheckLanes(OneWarp(+[](int32_t* out) {
               out[threadIdx.x] = __shfl_sync(kAll, static_cast<int>(threadIdx.x), 11, 8);
             }),
             [](int lane) { return lane / 8 * 8 + 3; });
  CheckLanes(OneWarp(+[](int32_t* out) {
               out[threadIdx.x] = __shfl_up_sync(kAll, static_cast<int>(threadIdx.x), 3, 16);
             }),
             [](int lane) { return lane % 16 < 3 ? lane : lane - 3; });
  CheckLanes(OneWarp(+[](int32_t* out) {
               out[threadIdx.x] = __shfl_down_sync(kAll, static_cast<int>(threadIdx.x), 5);
             }),
             [](int lane) { return lane + 5 > 31 ? lane : lane + 5; });
  CheckLanes(OneWarp(+[](int32_t* out) {
               const double value = __shfl_xor_sync(kAll, 0.5 * threadIdx.x, 9);
               out[threadIdx.x] = static_cast<int32_t>(2 * value);
             }),
             [](int lane) { return lane ^ 9; });
}

TEST(VotesAndReductions) {
  CheckLanes(OneWarp(+[](int32_t* out) {
               out[threadIdx.x] = static_cast<int32_t>(__ballot_sync(kAll, threadIdx.x % 3 == 0));
             }),
             [](int) { return 0x49249249; });
  CheckLanes(OneWarp(+[](int32_t* out) {
               const auto t = static_cast<int>(threadIdx.x);
               out[t] = __any_sync(kAll, t == 31) * 4 + __all_sync(kAll, t < 31) * 2 +
                        __all_sync(kAll, t < 32);
             }),
             [](int) { return 5; });
  CheckLanes(OneWarp(+[](int32_t* out) {
               const unsigned same = __match_any_sync(kAll, threadIdx.x % 4);
               out[threadIdx.x] = static_cast<int32_t>(same >> (threadIdx.x % 4));
             }),
             [](int) { return 0x11111111; });
  CheckLanes(OneWarp(+[](int32_t* out) {
               const auto t = static_cast<int>(threadIdx.x);
               out[t] = __reduce_add_sync(kAll, t) + __reduce_min_sync(kAll, t - 9) * 1000 +
                        __reduce_max_sync(kAll, -1 - t) * 100000;
             }),
             [](int) { return 496 - 9000 - 100000; });
  // Each half of the warp by itself.
  CheckLanes(OneWarp(+[](int32_t* out) {
               const unsigned lanes = threadIdx.x < 16 ? 0xFFFFU : 0xFFFF0000U;
               out[threadIdx.x] = static_cast<int32_t>(__reduce_max_sync(lanes, threadIdx.x) +
                                                       __reduce_or_sync(lanes, 1U << 8U));
             }),
             [](int lane) { return (lane < 16 ? 15 : 31) + 256; });
}

TEST(BlockVotes) {
  const auto context = cuda_emulation::MakeContext(3);
  std::vector<int32_t> out(96);
  Launch(
      *context, OneThreadEach(96, 96),
      +[](int32_t* results) {
        const auto t = static_cast<int>(threadIdx.x);
        const int count = __syncthreads_count(t % 5 == 0);
        const int any = __syncthreads_or(t == 95);
        const int none = __syncthreads_or(t == 96);
        const int all = __syncthreads_and(t < 96);
        const int most = __syncthreads_and(t < 95);
        results[t] = count * 10000 + any * 1000 + none * 100 + all * 10 + most;
      },
      out.data());
  for (const int32_t value : out) CHECK_EQ(value, 20 * 10000 + 1010);
}

TEST(OneThreadMayWaitForAnother) {
  const auto context = cuda_emulation::MakeContext(5);
  int32_t words[2] = {0, 0};
  Launch(
      *context, OneThreadEach(32, 32),
      +[](int32_t* w) {
        if (threadIdx.x == 7) rulebook::cuda::StoreVolatile(w, 41);
        if (threadIdx.x != 3) return;
        while (rulebook::cuda::LoadVolatile(w) == 0) {
        }
        w[1] = rulebook::cuda::LoadVolatile(w) + 1;
      },
      &words[0]);
  CHECK_EQ(words[1], 42);
}

TEST(Atomics) {
  const auto context = cuda_emulation::MakeContext(2);
  int64_t words[5] = {0, 100, -100, 0, -1};
  Launch(
      *context, OneThreadEach(64, 64),
      +[](int64_t* w) {
        const auto t = static_cast<int64_t>(threadIdx.x);
        rulebook::cuda::AtomicAdd(&w[0], t);
        rulebook::cuda::AtomicMin(&w[1], t - 5);
        rulebook::cuda::AtomicMax(&w[2], t - 5);
        rulebook::cuda::AtomicOr(&w[3], int64_t{1} << t);
        rulebook::cuda::AtomicCompareExchange(&w[4], t - 1, t);
      },
      &words[0]);
  CHECK_EQ(words[0], 64 * 63 / 2);
  CHECK_EQ(words[1], -5);
  CHECK_EQ(words[2], 58);
  CHECK_EQ(words[3], int64_t{-1});
  CHECK(words[4] >= 0 && words[4] < 64);
}

TEST(RulesThatAreBroken) {
  const auto context = cuda_emulation::MakeContext(1);
  int32_t unused = 0;
  const auto run = [&](void (*kernel)(int32_t*)) {
    Launch(*context, OneThreadEach(64, 64), kernel, &unused);
  };
  CHECK_THROWS(Fault, "63 wait at a barrier of the block", run([](int32_t*) {
                 if (threadIdx.x == 9) return;
                 __syncthreads();
               }));
  CHECK_THROWS(Fault, "which has returned", run([](int32_t*) {
                 if (threadIdx.x == 40) return;
                 __shfl_sync(kAll, 1, 0);
               }));
  CHECK_THROWS(Fault, "different warp operations", run([](int32_t*) {
                 if (threadIdx.x == 40) __syncwarp();
                 if (threadIdx.x != 40) __ballot_sync(kAll, 1);
               }));
  CHECK_THROWS(Fault, "leaves its own lane out", run([](int32_t*) { __syncwarp(1); }));
  CHECK_THROWS(Fault, "at an operation of their warp", run([](int32_t*) {
                 if (threadIdx.x == 0) __syncwarp();
                 if (threadIdx.x != 0) __syncthreads();
               }));
  CHECK_THROWS(Fault, "the launch gave none", run([](int32_t* out) {
                 VOXGATE_DYNAMIC_SHARED(int32_t, tile);
                 *out = tile[0];
               }));
  CHECK_THROWS(Fault, "not aligned to its size", run([](int32_t* out) {
                 VOXGATE_SHARED(int32_t, tile, [8]);
                 __pipeline_memcpy_async(&tile[1], out, 16);
               }));
  run([](int32_t* out) {
    __syncthreads();
    if (threadIdx.x == 0) *out = 7;
  });
  CHECK_EQ(unused, 7);
}

TEST(SharedMemoryIsPoisonedAndLarge) {
  const auto context = cuda_emulation::MakeContext(1);
  std::vector<int32_t> out(128 * 5);
  LaunchShape shape = OneThreadEach(128 * 5, 128);
  shape.shared_bytes = 200 * 1024;
  const auto kernel = +[](int32_t* result) {
    VOXGATE_SHARED(uint8_t, bytes, [3][128]);
    VOXGATE_DYNAMIC_SHARED(uint8_t, many);
    const int read = bytes[2][threadIdx.x] + many[200 * 1024 - 1 - threadIdx.x];
    __syncthreads();
    bytes[2][threadIdx.x] = many[200 * 1024 - 1 - threadIdx.x] = 1;
    result[rulebook::cuda::GlobalThread()] = read;
  };
  Launch(*context, shape, kernel, out.data());
  for (const int32_t value : out) CHECK_EQ(value, 2 * cuda_emulation::kPoison);
  shape.shared_bytes = 228 * 1024;
  CHECK_THROWS(Fault, "more shared memory", Launch(*context, shape, kernel, out.data()));
}

TEST(SortsAndSums) {
  const auto context = cuda_emulation::MakeContext(1);
  const std::vector<uint64_t> keys = {9, 4, 1ULL << 40U, 4, 0};
  const std::vector<int32_t> values = {0, 1, 2, 3, 4};
  std::vector<uint64_t> sorted_keys(5);
  std::vector<int32_t> sorted(5);
  rulebook::cuda::SortPairs(*context, keys.data(), sorted_keys.data(), values.data(), sorted.data(),
                            5, 41);
  CHECK(sorted == (std::vector<int32_t>{4, 1, 3, 0, 2}));
  rulebook::cuda::SortPairs(*context, keys.data(), sorted_keys.data(), values.data(), sorted.data(),
                            5, 4);
  CHECK(sorted == (std::vector<int32_t>{2, 4, 1, 3, 0}));
  rulebook::cuda::InclusiveSum(*context, values.data(), sorted.data(), 5);
  CHECK(sorted == (std::vector<int32_t>{0, 1, 3, 6, 10}));
  rulebook::cuda::ExclusiveSum(*context, sorted.data(), sorted.data(), 5);
  CHECK(sorted == (std::vector<int32_t>{0, 0, 1, 4, 10}));
}

TEST(HostSideCalls) {
  const auto context = cuda_emulation::MakeContext(1);
  std::vector<int32_t> numbers(5000);
  for (size_t i = 0; i < numbers.size(); ++i) numbers[i] = static_cast<int32_t>(i);
  const rulebook::cuda::Scratch<int32_t> a(*context, 5000);
  const rulebook::cuda::Scratch<int32_t> b(*context, 5000);
  const rulebook::cuda::Scratch<int32_t> none(*context, 0);
  CHECK(none.get() == nullptr);
  rulebook::cuda::CopyToDevice(*context, a.get(), numbers.data(), 5000);
  rulebook::cuda::Copy(*context, b.get(), a.get(), 5000);
  std::vector<int32_t> back(5000);
  rulebook::cuda::ReadBack(*context, b.get(), 5000, back.data());
  CHECK(back == numbers);
  rulebook::cuda::FillBytes(*context, b.get(), 0xFF, 1);
  CHECK_EQ(rulebook::cuda::ReadBack(*context, b.get()), -1);
  CHECK_EQ(rulebook::cuda::ReadBack(*context, b.get() + 1), 1);
}
