// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// device.h on the emulator. Included by it alone. Every atomic and every volatile access lets any
// other thread go first.
#pragma once

#include <cstddef>
#include <cstring>
#include <tuple>

#include "cuda_language.h"
#include "queue_log.h"

#define VOXGATE_SHARED(type, name, dims) \
  static char name##_key;                \
  type(&name) dims =                     \
      *static_cast<type(*) dims>(cuda_emulation::SharedArray(&name##_key, sizeof(type dims)))
#define VOXGATE_DYNAMIC_SHARED(type, name) \
  type* name = static_cast<type*>(cuda_emulation::DynamicShared())

namespace rulebook::cuda {

template <typename T>
T AtomicAdd(T* p, T value) {
  cuda_emulation::Yield();
  return __atomic_fetch_add(p, value, __ATOMIC_RELAXED);
}

template <typename T>
T AtomicOr(T* p, T value) {
  cuda_emulation::Yield();
  return __atomic_fetch_or(p, value, __ATOMIC_RELAXED);
}

template <typename T>
T AtomicExchange(T* p, T value) {
  cuda_emulation::Yield();
  return __atomic_exchange_n(p, value, __ATOMIC_RELAXED);
}

template <typename T>
T AtomicCompareExchange(T* p, T expected, T desired) {
  cuda_emulation::Yield();
  __atomic_compare_exchange_n(p, &expected, desired, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
  return expected;
}

template <typename T>
T AtomicMin(T* p, T value) {
  cuda_emulation::Yield();
  T before = __atomic_load_n(p, __ATOMIC_RELAXED);
  while (value < before && !__atomic_compare_exchange_n(p, &before, value, false, __ATOMIC_RELAXED,
                                                        __ATOMIC_RELAXED)) {
  }
  return before;
}

template <typename T>
T AtomicMax(T* p, T value) {
  cuda_emulation::Yield();
  T before = __atomic_load_n(p, __ATOMIC_RELAXED);
  while (before < value && !__atomic_compare_exchange_n(p, &before, value, false, __ATOMIC_RELAXED,
                                                        __ATOMIC_RELAXED)) {
  }
  return before;
}

template <typename T>
T LoadVolatile(const T* p) {
  cuda_emulation::Yield();
  return __atomic_load_n(p, __ATOMIC_RELAXED);
}

template <typename T>
void StoreVolatile(T* p, T value) {
  cuda_emulation::Yield();
  __atomic_store_n(p, value, __ATOMIC_RELAXED);
}

namespace backend {

inline DeviceTraits CurrentDevice() { return {4, 80}; }  // as many blocks run at once

template <typename... Parameters>
void Launch(CUstream_st* stream, const LaunchShape& shape, void (*kernel)(Parameters...),
            Parameters... arguments) {
  const std::tuple<void (*)(Parameters...), Parameters...> call(kernel, arguments...);
  cuda_emulation::Kernel launch{};
  launch.run = [](const void* data) {
    std::apply([](auto function, auto... values) { function(values...); },
               *static_cast<const std::tuple<void (*)(Parameters...), Parameters...>*>(data));
  };
  launch.arguments = &call;
  launch.function = reinterpret_cast<const void*>(kernel);
  launch.blocks = {static_cast<unsigned>(shape.blocks_x), static_cast<unsigned>(shape.blocks_y),
                   static_cast<unsigned>(shape.blocks_z)};
  launch.threads = shape.threads;
  launch.shared_bytes = shape.shared_bytes;
  cuda_emulation::LogLaunch(launch);
  cuda_emulation::Run(stream, launch);
}

inline void CopyOnDevice(CUstream_st* /*stream*/, void* to, const void* from, size_t bytes) {
  cuda_emulation::LogCall("copy");
  std::memcpy(to, from, bytes);
}
inline void CopyToDevice(CUstream_st* /*stream*/, void* to, const void* from, size_t bytes) {
  cuda_emulation::LogCall("copy");
  std::memcpy(to, from, bytes);
}
inline void CopyToHost(CUstream_st* /*stream*/, void* to, const void* from, size_t bytes) {
  cuda_emulation::LogCall("copy");
  std::memcpy(to, from, bytes);
}
inline void FillBytes(CUstream_st* /*stream*/, void* memory, int byte, size_t bytes) {
  cuda_emulation::LogCall("fill");
  std::memset(memory, byte, bytes);
}
inline void Wait(CUstream_st* /*stream*/) { cuda_emulation::LogCall("wait"); }

}  // namespace backend
}  // namespace rulebook::cuda
