// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// cuda_host.h on the emulator, whose kernels run at once and on one device.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>

#include "emulator.h"
#include "rulebook/cuda_host.h"
#include "rulebook/error.h"
#include "thread_stream.h"

// A point of a stream's time.
struct CUevent_st {
  std::chrono::steady_clock::time_point when;
  int asked = 0;
};

namespace cuda_emulation {

rulebook::CudaContext& ThreadContext() {
  constexpr uint64_t kSeed = 1;
  thread_local const std::unique_ptr<rulebook::CudaContext> context = MakeContext(kSeed);
  return *context;
}

}  // namespace cuda_emulation

namespace rulebook {
namespace {

thread_local int scopes = 0;

// As if every thread were new to the GPU, and the GPU were not the first.
void NeedDevice(const char* what) {
  if (scopes > 0) return;
  std::fprintf(stderr, "%s: its device is not this thread's\n", what);
  std::abort();
}

}  // namespace

int CudaDeviceCount() noexcept { return 1; }

CudaDeviceScope::CudaDeviceScope(int device) {
  if (device != 0) ThrowInvalid("device: cuda:", device, ", emulation has cuda:0 only");
  ++scopes;
}
CudaDeviceScope::~CudaDeviceScope() { --scopes; }

CudaStream::CudaStream() : stream_(cuda_emulation::ThreadContext().stream()) {}
CudaStream::~CudaStream() = default;
void CudaStream::Wait() const {}

PinnedMemory::PinnedMemory(size_t bytes) : memory_(std::malloc(bytes)) {
  if (memory_ == nullptr) throw std::bad_alloc();
}
PinnedMemory::~PinnedMemory() { std::free(memory_); }

CudaInterval::CudaInterval() : start_(new CUevent_st), stop_(new CUevent_st) {
  NeedDevice("an interval is made");
}
CudaInterval::~CudaInterval() {
  NeedDevice("an interval is destroyed");
  delete start_;
  delete stop_;
}

void CudaInterval::Start(CUstream_st* /*stream*/) noexcept {
  start_->when = std::chrono::steady_clock::now();
}

void CudaInterval::Stop(CUstream_st* /*stream*/) noexcept {
  stop_->when = std::chrono::steady_clock::now();
  stop_->asked = 0;
  recorded_ = true;
}

// Not at the first question: a GPU is behind its host.
bool CudaInterval::Finished(uint64_t* nanoseconds) const noexcept {
  NeedDevice("an interval is asked");
  *nanoseconds = 0;
  if (recorded_ && stop_->asked++ == 0) return false;
  const auto spent =
      std::chrono::duration_cast<std::chrono::nanoseconds>(stop_->when - start_->when);
  if (recorded_) *nanoseconds = static_cast<uint64_t>(spent.count());
  return true;
}

void CopyOnStream(CUstream_st* /*stream*/, void* to, const void* from, size_t bytes) {
  if (bytes > 0) std::memcpy(to, from, bytes);
}

}  // namespace rulebook
