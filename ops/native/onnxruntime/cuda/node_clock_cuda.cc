// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#include <exception>

#include "node_clock.h"

namespace voxgate {

using rulebook::CudaDeviceScope;
using rulebook::CudaInterval;
using rulebook::Device;

NodeClock<Device::kCuda>::NodeClock(OperatorCounter& counter, const NodeDevice<Device::kCuda>& node)
    : counter_(counter), device_(node.device()) {
  AddPending(this);
}

NodeClock<Device::kCuda>::~NodeClock() {
  RemovePending(this);
  try {
    const CudaDeviceScope current(device_);
    CollectLocked();
    for (Slot& slot : slots_) slot.interval.reset();
  } catch (const std::exception&) {  // the GPU is lost, and its times with it
  }
}

// On whatever thread asks for the times.
void NodeClock<Device::kCuda>::Collect() noexcept {
  try {
    const CudaDeviceScope current(device_);
    const std::lock_guard<std::mutex> lock(mutex_);
    CollectLocked();
  } catch (const std::exception&) {  // nothing can be known of the GPU
  }
}

void NodeClock<Device::kCuda>::CollectLocked() noexcept {
  for (Slot& slot : slots_) {
    uint64_t nanoseconds = 0;
    if (slot.state != State::kQueued || !slot.interval->Finished(&nanoseconds)) continue;
    counter_.nanoseconds.fetch_add(nanoseconds, std::memory_order_relaxed);
    slot.state = State::kIdle;
  }
}

CudaInterval* NodeClock<Device::kCuda>::Take() noexcept {
  try {
    const CudaDeviceScope current(device_);
    const std::lock_guard<std::mutex> lock(mutex_);
    CollectLocked();
    for (Slot& slot : slots_) {
      if (slot.state != State::kIdle) continue;
      // The first calls only.
      if (slot.interval == nullptr) slot.interval = std::make_unique<CudaInterval>();
      slot.state = State::kRunning;
      return slot.interval.get();
    }
  } catch (const std::exception&) {  // the call itself will meet what is wrong, and say so
  }
  return nullptr;
}

void NodeClock<Device::kCuda>::Queue(CudaInterval* interval) noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  for (Slot& slot : slots_) {
    if (slot.interval.get() == interval) slot.state = State::kQueued;
  }
}

NodeClock<Device::kCuda>::Call::Call(NodeClock& clock, const OrtKernelContext* kernel) noexcept
    : clock_(clock) {
  clock.counter_.calls.fetch_add(1, std::memory_order_relaxed);
  try {
    stream_ = StreamOf(kernel);
  } catch (const std::exception&) {
    return;  // as above
  }
  interval_ = clock.Take();
  if (interval_ != nullptr) interval_->Start(stream_);
}

NodeClock<Device::kCuda>::Call::~Call() {
  if (interval_ == nullptr) return;
  interval_->Stop(stream_);
  clock_.Queue(interval_);
}

}  // namespace voxgate
