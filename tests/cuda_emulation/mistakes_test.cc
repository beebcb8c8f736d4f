// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// Every mistake that a build claims to catch is caught, and the kernel without it passes. Each runs
// in a process of its own, as the sanitizers end a process.
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "check.h"
#include "kernels.h"
#include "sanitizers.h"

using kernels::kThreads;
using kernels::Mistake;

namespace {

constexpr int kWrongResult = 3;
constexpr int kFault = 4;
constexpr int64_t kBlocks = 6;

struct Case {
  const char* name;
  bool (*right)(rulebook::CudaContext&);
  bool (*wrong)(rulebook::CudaContext&);
  // What the process says (part of it) in each build; null: this build does not claim to catch it.
  const char* plain;
  const char* address;
  const char* thread;
};

std::vector<int32_t> Numbers(int64_t count) {
  std::vector<int32_t> values(static_cast<size_t>(count));
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<int32_t>(i * 7 + 1);
  return values;
}

// Whether the kernel turns its input into the expected output.
template <typename Expect>
bool Gives(rulebook::CudaContext& context, void (*kernel)(const int32_t*, int32_t*), int64_t blocks,
           bool dynamic, const Expect& expect) {
  const std::vector<int32_t> values = Numbers(blocks * kThreads);
  std::vector<int32_t> result(values.size());
  const rulebook::cuda::Scratch<int32_t> in(context, blocks * kThreads);
  const rulebook::cuda::Scratch<int32_t> out(context, blocks * kThreads);
  rulebook::cuda::CopyToDevice(context, in.get(), values.data(), blocks * kThreads);
  rulebook::cuda::LaunchShape shape;
  shape.blocks_x = blocks;
  shape.threads = kThreads;
  shape.shared_bytes = dynamic ? kThreads * sizeof(int32_t) : 0;
  rulebook::cuda::Launch(context, shape, kernel, in.get(), out.get());
  rulebook::cuda::ReadBack(context, out.get(), blocks * kThreads, result.data());
  for (size_t i = 0; i < result.size(); ++i) {
    const size_t from = expect(i);
    if (result[i] != (from < values.size() ? values[from] : 0)) return false;
  }
  return true;
}

template <Mistake kMistake>
bool Barrier(rulebook::CudaContext& context) {
  return Gives(context, &kernels::ReverseBlocks<kMistake>, kBlocks, false,
               [](size_t i) { return i / kThreads * kThreads + (kThreads - 1 - i % kThreads); });
}

template <Mistake kMistake>
bool WarpBarrier(rulebook::CudaContext& context) {
  return Gives(context, &kernels::ReverseWarps<kMistake>, kBlocks, false,
               [](size_t i) { return i ^ 31U; });
}

template <Mistake kMistake>
bool Increment(rulebook::CudaContext& context) {
  int32_t count = 0;
  rulebook::cuda::Launch(context, rulebook::cuda::OneThreadEach(kBlocks * kThreads, kThreads),
                         &kernels::CountThreads<kMistake>, &count);
  return count == kBlocks * kThreads;
}

template <Mistake kMistake>
bool IncrementByBlocks(rulebook::CudaContext& context) {
  int32_t count = 0;
  rulebook::cuda::Launch(context, rulebook::cuda::OneThreadEach(kBlocks * kThreads, kThreads),
                         &kernels::CountBlocks<kMistake>, &count);
  return count == kBlocks;
}

template <Mistake kMistake>
bool Read(rulebook::CudaContext& context) {
  return Gives(context, &kernels::ReadBeside<kMistake>, 1, true, [](size_t i) { return i - 1; });
}

template <Mistake kMistake>
bool Write(rulebook::CudaContext& context) {
  return Gives(context, &kernels::WriteBeside<kMistake>, 1, true, [](size_t i) { return i; });
}

template <Mistake kMistake>
bool ReadDevice(rulebook::CudaContext& context) {
  return Gives(context, &kernels::ReadBesideDeviceMemory<kMistake>, 1, false,
               [](size_t i) { return i + 1; });
}

template <Mistake kMistake>
bool AsynchronousCopy(rulebook::CudaContext& context) {
  return Gives(context, &kernels::CopyAsynchronously<kMistake>, 1, false,
               [](size_t i) { return kThreads - 1 - i; });
}

#define BOTH(function) &function<Mistake::kNone>, &function<Mistake::kMade>
constexpr const char* kWrong = "wrong result";
constexpr const char* kRace = "data race";
constexpr const char* kBeside = "a write beside a shared array";
constexpr const char* kPoisoned = "use-after-poison";
constexpr const char* kOverflow = "heap-buffer-overflow";
const std::array<Case, 8> kCases = {{
    {"missing barrier", BOTH(Barrier), kWrong, kWrong, kRace},
    {"missing warp barrier", BOTH(WarpBarrier), nullptr, nullptr, kRace},
    {"increment that is not atomic", BOTH(Increment), nullptr, nullptr, kRace},
    {"increment by blocks that is not atomic", BOTH(IncrementByBlocks), nullptr, nullptr, kRace},
    {"shared read out of bounds", BOTH(Read), nullptr, kPoisoned, nullptr},
    {"shared write out of bounds", BOTH(Write), kBeside, kPoisoned, kBeside},
    {"device read out of bounds", BOTH(ReadDevice), nullptr, kOverflow, nullptr},
    {"missing wait for a copy", BOTH(AsynchronousCopy), kWrong, kWrong, kWrong},
}};

const char* Claim(const Case& c) {
#if defined(VOXGATE_EMULATION_ADDRESS)
  return c.address;
#elif defined(VOXGATE_EMULATION_THREAD)
  return c.thread;
#else
  return c.plain;
#endif
}

struct Finished {
  bool passed;
  std::string output;
};

Finished RunAlone(size_t index, const char* version, uint64_t seed) {
  const std::string number = std::to_string(index);
  const std::string seed_text = std::to_string(seed);
  int pipe_ends[2];
  CHECK(pipe(pipe_ends) == 0);
  const pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    dup2(pipe_ends[1], 1);
    dup2(pipe_ends[1], 2);
    close(pipe_ends[0]);
    close(pipe_ends[1]);
    execl("/proc/self/exe", "mistakes_test", number.c_str(), version, seed_text.c_str(), nullptr);
    _exit(127);
  }
  close(pipe_ends[1]);
  Finished finished{};
  char buffer[4096];
  for (ssize_t n = 0; (n = read(pipe_ends[0], buffer, sizeof buffer)) > 0;) {
    finished.output.append(buffer, static_cast<size_t>(n));
  }
  close(pipe_ends[0]);
  int status = 0;
  CHECK(waitpid(child, &status, 0) == child);
  finished.passed = WIFEXITED(status) && WEXITSTATUS(status) == EXIT_SUCCESS;
  return finished;
}

int RunCase(const Case& c, const std::string& version, uint64_t seed) {
  const auto context = cuda_emulation::MakeContext(seed);
  try {
    if ((version == "right" ? c.right : c.wrong)(*context)) return EXIT_SUCCESS;
    std::fprintf(stderr, "wrong result\n");
    return kWrongResult;
  } catch (const cuda_emulation::Fault& fault) {
    std::fprintf(stderr, "%s\n", fault.what());
    return kFault;
  }
}

}  // namespace

TEST(MistakesAreCaught) {
  for (size_t i = 0; i < kCases.size(); ++i) {
    const char* claim = Claim(kCases[i]);
    if (claim == nullptr) continue;
    for (uint64_t seed = 1; seed <= 3; ++seed) {
      const Finished wrong = RunAlone(i, "wrong", seed);
      if (wrong.passed || wrong.output.find(claim) == std::string::npos) {
        check::Fail(__FILE__, __LINE__, kCases[i].name, ", seed ", seed, ": expected \"", claim,
                    "\", got: ", wrong.output.empty() ? "nothing" : wrong.output);
      }
    }
  }
}

TEST(KernelsWithoutThemPass) {
  for (size_t i = 0; i < kCases.size(); ++i) {
    for (uint64_t seed = 1; seed <= 3; ++seed) {
      const Finished right = RunAlone(i, "right", seed);
      if (right.passed && right.output.empty()) continue;
      check::Fail(__FILE__, __LINE__, kCases[i].name, ", seed ", seed, ": ", right.output);
    }
  }
}

int main(int count, char** arguments) {
  if (count != 4) return check::RunTests();
  const auto index = static_cast<size_t>(std::atoi(arguments[1]));
  return RunCase(kCases.at(index), arguments[2], std::strtoull(arguments[3], nullptr, 10));
}
