// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// Runs kernels on the host: one fibre per thread, a few blocks at a time, and at every point where
// a thread stops a random choice of the one that goes on. What a kernel may not do is a Fault.
//
// The functions called from kernels keep to plain memory of their own: they are compiled without
// ThreadSanitizer, and a function of the standard library might be the copy compiled with it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>

#include "rulebook/cuda_context.h"

namespace cuda_emulation {

// A kernel broke a rule: a barrier that not all reach, a lane that has returned, …
class Fault : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// A context whose kernels run at once, scheduled by `seed`. Its memory has the exact size asked for
// and is full of kPoison.
std::unique_ptr<rulebook::CudaContext> MakeContext(uint64_t seed);

constexpr uint8_t kPoison = 0xA5;

struct Index3 {
  unsigned x, y, z;
};

struct Kernel {
  void (*run)(const void* arguments);
  const void* arguments;
  const void* function;  // for the log
  Index3 blocks;
  int threads;
  size_t shared_bytes;
};

// Runs the kernel to its end. Throws Fault.
void Run(CUstream_st* stream, const Kernel& kernel);

// --- called by the threads of a kernel ----------------------------------------------------------

// Lets any thread go on.
void Yield();

struct Votes {
  int count;  // of the block's threads whose predicate was not 0
  int threads;
};

// Returns when every thread of the block is here.
Votes BlockBarrier(bool predicate);

enum class WarpOperation {
  kSync,       // no value; memory written before is visible after
  kShuffle,    // argument: the lane to read, of which nothing is known if it is not in the mask
  kBallot,     // value: the predicate
  kMatchAny,   // the mask of the lanes with this lane's value
  kReduceAdd,  // of uint32, wrapping
  kReduceMin,  // of int64
  kReduceMax,
  kReduceAnd,
  kReduceOr,
  kCall,  // value: a pointer; argument: void (*)(void* const* values), called once by one of them
};

// Returns when every lane of the mask is here, with this lane's result.
uint64_t WarpExchange(WarpOperation operation, uint32_t mask, uint64_t value, uint64_t argument);

// The block's array that `key` names; the first thread to ask makes it.
void* SharedArray(const void* key, size_t bytes);
void* DynamicShared();

// Stops the kernel with a Fault. `reason` is a literal.
[[noreturn]] void Fail(const char* reason);

// A random number, so that a thread's own choices follow the seed too.
uint32_t Random();

// Copies that a thread has begun and not yet waited for.
struct PendingCopies {
  struct Copy {
    void* to;
    const void* from;
    size_t bytes;
    size_t zeros;  // how many of them, at the end, are 0 and not read
    unsigned group;
  };
  static constexpr size_t kMax = 128;

  size_t count;
  unsigned group;  // that the next copy joins
  Copy copy[kMax];
};
PendingCopies& Pending();

// Orders this thread's memory accesses with those of all threads that call it: more than the
// hardware's fence does, as ThreadSanitizer knows no lone fences.
void Fence();

}  // namespace cuda_emulation
