// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// Times a node's calls on its stream, by events that are read when they have passed: no call waits
// for them. Included by node_clock.h.
#pragma once

#include <onnxruntime_cxx_api.h>

#include <array>
#include <cstddef>
#include <memory>
#include <mutex>

#include "context.h"
#include "operator_counters.h"
#include "rulebook/cuda_host.h"

namespace voxgate {

template <>
class NodeClock<rulebook::Device::kCuda> final : private PendingTimes {
 public:
  NodeClock(OperatorCounter& counter, const NodeDevice<rulebook::Device::kCuda>& node);
  // No call is running; the time of those that the GPU has not finished is left out.
  ~NodeClock() override;
  NodeClock(const NodeClock&) = delete;
  NodeClock& operator=(const NodeClock&) = delete;

  // Counts one call, from its construction to its destruction.
  class Call {
   public:
    Call(NodeClock& clock, const OrtKernelContext* kernel) noexcept;
    ~Call();
    Call(const Call&) = delete;
    Call& operator=(const Call&) = delete;

   private:
    NodeClock& clock_;
    CUstream_st* stream_ = nullptr;
    rulebook::CudaInterval* interval_ = nullptr;  // null: this call is not timed
  };

 private:
  enum class State { kIdle, kRunning, kQueued };
  struct Slot {
    State state = State::kIdle;
    std::unique_ptr<rulebook::CudaInterval> interval;
  };
  // As many calls of one node may be queued and timed. A session queues one per Run at the same
  // time, so this is far from being reached.
  static constexpr size_t kSlots = 32;

  void Collect() noexcept override;
  void CollectLocked() noexcept;
  rulebook::CudaInterval* Take() noexcept;
  void Queue(rulebook::CudaInterval* interval) noexcept;

  OperatorCounter& counter_;
  const int device_;
  std::mutex mutex_;
  std::array<Slot, kSlots> slots_;
};

}  // namespace voxgate
