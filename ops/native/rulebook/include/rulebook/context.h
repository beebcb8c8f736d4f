// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// Where a call runs. Every operator of this library takes a Context<Device> first: it brings the
// threads (or the stream) and nothing else, so one host framework's pool serves all the work.
#pragma once

#include <cstdint>
#include <memory>
#include <type_traits>
#include <utility>

namespace rulebook {

enum class Device { kCpu, kCuda };

// A non-owning reference to a callable, valid for the duration of the call it is passed to.
template <typename Signature>
class FunctionRef;

template <typename R, typename... Args>
class FunctionRef<R(Args...)> {
 public:
  template <typename F, typename = std::enable_if_t<!std::is_same_v<std::decay_t<F>, FunctionRef>>>
  FunctionRef(F&& f)  // NOLINT(google-explicit-constructor): made to be passed a lambda
      : object_(const_cast<void*>(static_cast<const void*>(std::addressof(f)))),
        call_([](void* object, Args... args) -> R {
          return (*static_cast<std::add_pointer_t<std::remove_reference_t<F>>>(object))(
              std::forward<Args>(args)...);
        }) {}

  R operator()(Args... args) const { return call_(object_, std::forward<Args>(args)...); }

 private:
  void* object_;
  R (*call_)(void*, Args...);
};

template <Device D>
class Context;

// The CPU's context. A host framework derives from it and lends its own thread pool.
template <>
class Context<Device::kCpu> {
 public:
  virtual ~Context() = default;

  // Calls task(0) … task(tasks-1), each exactly once, on any threads, and returns when all have
  // finished. If tasks throw, the exception of the lowest such task is rethrown here; tasks above
  // it that have not begun are skipped. Must not be called from inside a task.
  void ParallelFor(int64_t tasks, FunctionRef<void(int64_t)> task);

 protected:
  // Runs every task; `task` never throws. Only called with tasks > 1.
  virtual void Run(int64_t tasks, FunctionRef<void(int64_t)> task) = 0;
};

using CpuContext = Context<Device::kCpu>;

// A fixed pool of `threads` threads (the calling one counts), for hosts that have no pool to lend.
// Several threads may use one pool at once; each ParallelFor is then served by whoever is free.
// Throws Error when threads < 1.
std::unique_ptr<CpuContext> MakeThreadPool(int threads);

}  // namespace rulebook
