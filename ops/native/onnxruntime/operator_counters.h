// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// Calls and time of every operator, by model. VoxgateOperatorTimes reads them.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <string>

namespace voxgate {

// On a cache line of its own: one model's engines share it, other models' must not wait for them.
struct alignas(64) OperatorCounter {
  std::atomic<uint64_t> calls{0};
  std::atomic<uint64_t> nanoseconds{0};
  std::atomic<bool> has_nodes{false};
};

// The same counter for the same arguments, for as long as the process lives.
OperatorCounter& CounterOf(const std::string& model, const char* operator_name, const char* device);

// Time of calls that is not counted yet, because the device was not done with them.
class PendingTimes {
 public:
  virtual ~PendingTimes() = default;
  // Counts what has ended since. Does not wait.
  virtual void Collect() noexcept = 0;
};

// Has VoxgateOperatorTimes collect first, until it is removed.
void AddPending(PendingTimes* pending);
void RemovePending(PendingTimes* pending) noexcept;

// Counts one call, from its construction to its destruction. Neither locks nor allocates.
class CountedCall {
 public:
  explicit CountedCall(OperatorCounter& counter) noexcept
      : counter_(counter), start_(Clock::now()) {}
  ~CountedCall() {
    const auto spent = std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - start_);
    counter_.calls.fetch_add(1, std::memory_order_relaxed);
    counter_.nanoseconds.fetch_add(static_cast<uint64_t>(spent.count()), std::memory_order_relaxed);
  }
  CountedCall(const CountedCall&) = delete;
  CountedCall& operator=(const CountedCall&) = delete;

 private:
  using Clock = std::chrono::steady_clock;

  OperatorCounter& counter_;
  const Clock::time_point start_;
};

}  // namespace voxgate
