// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#include "emulator.h"

#include <algorithm>
#include <cstdlib>
#include <new>
#include <string>
#include <vector>

#include "cuda_language.h"
#include "fibre.h"
#include "sanitizers.h"
#include "shared_memory.h"

__thread uint3 threadIdx;
__thread uint3 blockIdx;
__thread dim3 blockDim;
__thread dim3 gridDim;

// The seed's random numbers; what "stream" means here, as every launch ends before the next.
struct CUstream_st {
  uint64_t state;

  uint32_t Next() {
    state = state * 6364136223846793005U + 1442695040888963407U;
    return static_cast<uint32_t>(state >> 33U);
  }
  size_t Below(size_t bound) { return Next() % bound; }
};

namespace cuda_emulation {
namespace {

constexpr int kLanes = 32;
constexpr int kMaxThreads = 1024;
// Blocks that run at the same time. Those that take turns at one place are ordered, so this is also
// how many of them ThreadSanitizer holds against each other.
constexpr size_t kPlaces = sanitizers::kThread ? 2 : 4;

struct Place;

enum class State { kReady, kAtBlockBarrier, kAtWarp, kReturned };

struct Thread {
  Place* place = nullptr;
  int number = 0;
  Fibre* fibre = nullptr;
  State state = State::kReturned;
  uint3 block{};

  WarpOperation operation{};
  uint32_t mask = 0;
  uint64_t value = 0;
  uint64_t argument = 0;
  uint64_t result = 0;

  bool predicate = false;
  Votes votes{};
  const char* error = nullptr;  // what stopped the kernel, if this thread did
  PendingCopies pending;

  int lane() const { return number % kLanes; }
};

struct Warp {
  char sync[2];  // taken in turns: who is late at one barrier must not learn of the next
  unsigned turn = 0;
};

// Where one block at a time runs.
struct Place {
  Thread thread[kMaxThreads];
  Warp warp[kMaxThreads / kLanes];
  SharedMemory shared;
  void* dynamic = nullptr;
  int threads = 0;  // of the block
  int running = 0;
  int arrived = 0;
  int votes = 0;
  char barrier_sync[2];
  unsigned turn = 0;
  // From one block here to the next; in turns, as a thread may return before another begins.
  char order_sync[2];
  unsigned blocks = 0;
};

__thread Thread* current;

class Machine {
 public:
  Machine() = default;
  Machine(const Machine&) = delete;
  Machine& operator=(const Machine&) = delete;
  ~Machine() {
    for (const Fibre* fibre : fibres_) delete fibre;
  }

  void Run(CUstream_st& random, const Kernel& kernel) {
    random_ = &random;
    kernel_ = &kernel;
    stickiness_ = random.Below(3);
    ready_.clear();
    sanitizers::Release(&start_sync_);
    const size_t blocks = size_t{kernel.blocks.x} * kernel.blocks.y * kernel.blocks.z;
    std::vector<uint32_t> order(blocks);
    for (size_t i = 0; i < blocks; ++i) {
      order[i] = static_cast<uint32_t>(i);
      std::swap(order[i], order[random.Below(i + 1)]);
    }
    PreparePlaces(std::min(blocks, kPlaces));
    size_t begun = 0;
    for (; begun < std::min(blocks, kPlaces); ++begun) Begin(*places_[begun], order[begun]);
    while (!ready_.empty()) {
      Thread& thread = TakeReady();
      Resume(thread);
      Place& place = *thread.place;
      if (place.running == 0) {
        End(place);
        if (begun < blocks) Begin(place, order[begun++]);
      }
    }
    for (const auto& place : places_) CheckReturned(*place);
    sanitizers::Acquire(&end_sync_);
  }

  uint32_t Random() { return random_->Next(); }

  // After a Fault the threads that wait will never return.
  void Abandon() {
    for (const Fibre* fibre : fibres_) delete fibre;
    fibres_.clear();
    for (const auto& place : places_) {
      for (Thread& thread : place->thread) thread.fibre = nullptr;
      place->running = 0;
    }
  }

 private:
  void PreparePlaces(size_t places) {
    while (places_.size() < places) {
      auto place = std::make_unique<Place>();
      for (int i = 0; i < kMaxThreads; ++i) {
        place->thread[i].place = place.get();
        place->thread[i].number = i;
      }
      places_.push_back(std::move(place));
    }
    for (size_t p = 0; p < places; ++p) {
      for (int i = 0; i < kernel_->threads; ++i) {
        Thread& thread = places_[p]->thread[i];
        if (thread.fibre != nullptr) continue;
        thread.fibre = new Fibre(&Main, &thread);
        fibres_.push_back(thread.fibre);
      }
    }
  }

  void Begin(Place& place, uint32_t block) {
    const Index3 blocks = kernel_->blocks;
    place.shared.Reset();
    place.dynamic = nullptr;
    if (kernel_->shared_bytes > 0) {
      place.dynamic = place.shared.Add(nullptr, kernel_->shared_bytes);
      if (place.dynamic == nullptr) throw Fault("more shared memory than a block may have");
    }
    place.threads = place.running = kernel_->threads;
    place.arrived = place.votes = 0;
    ++place.blocks;
    for (int i = 0; i < place.threads; ++i) {
      Thread& thread = place.thread[i];
      thread.block = {block % blocks.x, block / blocks.x % blocks.y, block / blocks.x / blocks.y};
      thread.pending.count = thread.pending.group = 0;
      MakeReady(thread);
    }
  }

  void End(Place& place) {
    if (!place.shared.RedzonesIntact()) throw Fault("a write beside a shared array");
  }

  Thread& TakeReady() {
    // Sometimes the thread that stopped last goes on, so that some threads get far ahead.
    size_t i = ready_.size() - 1;
    constexpr size_t kStay[] = {0, 8, 15};  // of 16
    if (random_->Below(16) >= kStay[stickiness_]) i = random_->Below(ready_.size());
    Thread* thread = ready_[i];
    ready_[i] = ready_.back();
    ready_.pop_back();
    return *thread;
  }

  void Resume(Thread& thread) {
    current = &thread;
    threadIdx = {static_cast<unsigned>(thread.number), 0, 0};
    blockIdx = thread.block;
    blockDim = dim3(static_cast<unsigned>(kernel_->threads));
    gridDim = dim3(kernel_->blocks.x, kernel_->blocks.y, kernel_->blocks.z);
    thread.fibre->Resume();
    current = nullptr;
    if (thread.error != nullptr) {
      const std::string error = thread.error;
      thread.error = nullptr;
      throw Fault(Name(thread) + ": " + error);
    }
    switch (thread.state) {
      case State::kReady:
        ready_.push_back(&thread);
        break;
      case State::kAtBlockBarrier:
        AtBlockBarrier(thread);
        break;
      case State::kAtWarp:
        AtWarp(thread);
        break;
      case State::kReturned:
        --thread.place->running;
        break;
    }
  }

  void AtBlockBarrier(const Thread& thread) {
    Place& place = *thread.place;
    ++place.arrived;
    place.votes += thread.predicate ? 1 : 0;
    if (place.arrived < place.threads) return;
    for (int i = 0; i < place.threads; ++i) {
      place.thread[i].votes = {place.votes, place.threads};
      MakeReady(place.thread[i]);
    }
    place.arrived = place.votes = 0;
    ++place.turn;
  }

  void AtWarp(Thread& thread) {
    Thread* warp = thread.place->thread + (thread.number - thread.lane());
    if (thread.operation == WarpOperation::kSync && thread.mask == 0) {
      throw Fault(Name(thread) + ": a warp operation with an empty mask");
    }
    if ((thread.mask >> static_cast<unsigned>(thread.lane()) & 1U) == 0) {
      throw Fault(Name(thread) + ": a warp operation whose mask leaves its own lane out");
    }
    for (int lane = 0; lane < kLanes; ++lane) {
      const Thread& other = warp[lane];
      if ((thread.mask >> static_cast<unsigned>(lane) & 1U) == 0) continue;
      if (other.state == State::kReturned) {
        throw Fault(Name(thread) + ": a warp operation whose mask names lane " +
                    std::to_string(lane) + ", which has returned");
      }
      if (other.state != State::kAtWarp) return;
      if (other.operation != thread.operation || other.mask != thread.mask) {
        throw Fault(Name(thread) + " and " + Name(other) + " are at different warp operations");
      }
    }
    Complete(warp, thread);
  }

  void Complete(Thread* warp, const Thread& last) {
    const uint32_t mask = last.mask;
    ++last.place->warp[last.number / kLanes].turn;
    if (last.operation == WarpOperation::kCall) {
      void* values[kLanes] = {};
      for (int lane = 0; lane < kLanes; ++lane) {
        if ((mask >> static_cast<unsigned>(lane) & 1U) != 0) {
          values[lane] = reinterpret_cast<void*>(warp[lane].value);
        }
      }
      reinterpret_cast<void (*)(void* const*)>(last.argument)(values);
    }
    for (int lane = 0; lane < kLanes; ++lane) {
      if ((mask >> static_cast<unsigned>(lane) & 1U) == 0) continue;
      warp[lane].result = ResultOf(warp, warp[lane]);
    }
    for (int lane = 0; lane < kLanes; ++lane) {
      if ((mask >> static_cast<unsigned>(lane) & 1U) != 0) MakeReady(warp[lane]);
    }
  }

  static uint64_t ResultOf(const Thread* warp, const Thread& thread) {
    if (thread.operation == WarpOperation::kShuffle) {
      const auto source = static_cast<unsigned>(thread.argument);
      const bool known = source < kLanes && (thread.mask >> source & 1U) != 0;
      return known ? warp[source].value : 0xA5A5A5A5A5A5A5A5U;
    }
    uint64_t result = 0;
    bool first = true;
    for (unsigned lane = 0; lane < kLanes; ++lane) {
      if ((thread.mask >> lane & 1U) == 0) continue;
      const uint64_t value = warp[lane].value;
      switch (thread.operation) {
        case WarpOperation::kBallot:
          result |= uint64_t{value != 0} << lane;
          break;
        case WarpOperation::kMatchAny:
          result |= uint64_t{value == thread.value} << lane;
          break;
        case WarpOperation::kReduceAdd:
          result += value;
          break;
        case WarpOperation::kReduceMin:
          if (first || static_cast<int64_t>(value) < static_cast<int64_t>(result)) result = value;
          break;
        case WarpOperation::kReduceMax:
          if (first || static_cast<int64_t>(value) > static_cast<int64_t>(result)) result = value;
          break;
        case WarpOperation::kReduceAnd:
          result = first ? value : result & value;
          break;
        case WarpOperation::kReduceOr:
          result |= value;
          break;
        default:
          break;
      }
      first = false;
    }
    return result;
  }

  void MakeReady(Thread& thread) {
    thread.state = State::kReady;
    ready_.push_back(&thread);
  }

  void CheckReturned(const Place& place) const {
    if (place.running == 0) return;
    int at_barrier = 0;
    int at_warp = 0;
    for (int i = 0; i < place.threads; ++i) {
      at_barrier += place.thread[i].state == State::kAtBlockBarrier ? 1 : 0;
      at_warp += place.thread[i].state == State::kAtWarp ? 1 : 0;
    }
    throw Fault("of a block's " + std::to_string(place.threads) + " threads " +
                std::to_string(at_barrier) + " wait at a barrier of the block, " +
                std::to_string(at_warp) + " at an operation of their warp and " +
                std::to_string(place.threads - place.running) +
                " have returned: nothing can go on");
  }

  static std::string Name(const Thread& thread) {
    return "thread " + std::to_string(thread.number) + " of block (" +
           std::to_string(thread.block.x) + ", " + std::to_string(thread.block.y) + ", " +
           std::to_string(thread.block.z) + ")";
  }

  static void Main(void* argument);

  CUstream_st* random_ = nullptr;
  const Kernel* kernel_ = nullptr;
  size_t stickiness_ = 0;
  std::vector<std::unique_ptr<Place>> places_;
  std::vector<Fibre*> fibres_;
  std::vector<Thread*> ready_;
  char start_sync_ = 0;
  char end_sync_ = 0;
};

Machine& ThisMachine() {
  static thread_local Machine machine;
  return machine;
}

void Machine::Main(void* argument) {
  auto& thread = *static_cast<Thread*>(argument);
  Machine& machine = ThisMachine();
  Place& place = *thread.place;
  for (;;) {
    sanitizers::Acquire(&machine.start_sync_);
    sanitizers::Acquire(&place.order_sync[(place.blocks - 1) % 2]);
    try {
      machine.kernel_->run(machine.kernel_->arguments);
    } catch (...) {
      thread.error = "a kernel cannot throw";
    }
    sanitizers::Release(&place.order_sync[place.blocks % 2]);
    sanitizers::Release(&machine.end_sync_);
    thread.state = State::kReturned;
    thread.fibre->Suspend();
  }
}

class EmulatedContext final : public rulebook::CudaContext {
 public:
  explicit EmulatedContext(uint64_t seed) : stream_{seed * 0x9E3779B97F4A7C15U + 1} {}
  EmulatedContext(const EmulatedContext&) = delete;
  EmulatedContext& operator=(const EmulatedContext&) = delete;
  ~EmulatedContext() override = default;

  CUstream_st* stream() const override { return &stream_; }

  void* Allocate(size_t bytes) override {
    void* memory = nullptr;
    if (posix_memalign(&memory, kAlignment, bytes) != 0) throw std::bad_alloc();
    FillWithPoison(memory, bytes);
    return memory;
  }
  void Release(void* memory) noexcept override { std::free(memory); }

  void* pinned() override { return pinned_; }

 private:
  mutable CUstream_st stream_;
  alignas(64) unsigned char pinned_[kPinnedBytes];
};

}  // namespace

std::unique_ptr<rulebook::CudaContext> MakeContext(uint64_t seed) {
  return std::make_unique<EmulatedContext>(seed);
}

void Run(CUstream_st* stream, const Kernel& kernel) {
  Machine& machine = ThisMachine();
  try {
    machine.Run(*stream, kernel);
  } catch (...) {
    machine.Abandon();
    throw;
  }
}

void Yield() { current->fibre->Suspend(); }

Votes BlockBarrier(bool predicate) {
  Thread& thread = *current;
  Place& place = *thread.place;
  char* sync = &place.barrier_sync[place.turn % 2];
  sanitizers::Release(sync);
  thread.predicate = predicate;
  thread.state = State::kAtBlockBarrier;
  thread.fibre->Suspend();
  sanitizers::Acquire(sync);
  return thread.votes;
}

uint64_t WarpExchange(WarpOperation operation, uint32_t mask, uint64_t value, uint64_t argument) {
  Thread& thread = *current;
  Warp& warp = thread.place->warp[thread.number / kLanes];
  char* sync = &warp.sync[warp.turn % 2];
  if (operation == WarpOperation::kSync) sanitizers::Release(sync);
  thread.operation = operation;
  thread.mask = mask;
  thread.value = value;
  thread.argument = argument;
  thread.state = State::kAtWarp;
  thread.fibre->Suspend();
  if (operation == WarpOperation::kSync) sanitizers::Acquire(sync);
  return thread.result;
}

void* SharedArray(const void* key, size_t bytes) {
  SharedMemory& shared = current->place->shared;
  void* data = shared.Find(key);
  if (data == nullptr) data = shared.Add(key, bytes);
  if (data == nullptr) Fail("more shared memory than a block may have");
  return data;
}

void* DynamicShared() {
  void* dynamic = current->place->dynamic;
  if (dynamic == nullptr) Fail("dynamic shared memory, but the launch gave none");
  return dynamic;
}

void Fail(const char* reason) {
  Thread& thread = *current;
  thread.error = reason;
  thread.fibre->Suspend();
  __builtin_trap();  // never resumed
}

uint32_t Random() { return ThisMachine().Random(); }

PendingCopies& Pending() { return current->pending; }

void Fence() {
  static char sync;
  sanitizers::Acquire(&sync);
  sanitizers::Release(&sync);
  Yield();
}

}  // namespace cuda_emulation
