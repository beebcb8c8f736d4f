// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// What the sanitizers want to know about fibres and memory of ours. The emulator is compiled
// without them, so the build says which one the program runs under.
#pragma once

#include <cstddef>

#if defined(VOXGATE_EMULATION_ADDRESS)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#elif defined(VOXGATE_EMULATION_THREAD)
#include <sanitizer/tsan_interface.h>
#endif

namespace cuda_emulation::sanitizers {

#if defined(VOXGATE_EMULATION_ADDRESS)
inline void StartSwitch(void** fake_stack, const void* stack, size_t bytes) {
  __sanitizer_start_switch_fiber(fake_stack, stack, bytes);
}
inline void FinishSwitch(void* fake_stack, const void** old_stack, size_t* old_bytes) {
  __sanitizer_finish_switch_fiber(fake_stack, old_stack, old_bytes);
}
inline void Poison(const void* memory, size_t bytes) { __asan_poison_memory_region(memory, bytes); }
inline void Unpoison(const void* memory, size_t bytes) {
  __asan_unpoison_memory_region(memory, bytes);
}
#else
inline void StartSwitch(void** /*fake_stack*/, const void* /*stack*/, size_t /*bytes*/) {}
inline void FinishSwitch(void* /*fake_stack*/, const void** /*old_stack*/, size_t* /*old_bytes*/) {}
inline void Poison(const void* /*memory*/, size_t /*bytes*/) {}
inline void Unpoison(const void* /*memory*/, size_t /*bytes*/) {}
#endif

// Acquire and Release order the calling thread's accesses through the address, and no others:
// switching fibres orders nothing.
#if defined(VOXGATE_EMULATION_THREAD)
constexpr bool kThread = true;
inline void* CurrentFibre() { return __tsan_get_current_fiber(); }
inline void* CreateFibre() { return __tsan_create_fiber(0); }
inline void DestroyFibre(void* fibre) { __tsan_destroy_fiber(fibre); }
inline void SwitchToFibre(void* fibre) {
  __tsan_switch_to_fiber(fibre, __tsan_switch_to_fiber_no_sync);
}
inline void Acquire(void* address) { __tsan_acquire(address); }
inline void Release(void* address) { __tsan_release(address); }
#else
constexpr bool kThread = false;
inline void* CurrentFibre() { return nullptr; }
inline void* CreateFibre() { return nullptr; }
inline void DestroyFibre(void* /*fibre*/) {}
inline void SwitchToFibre(void* /*fibre*/) {}
inline void Acquire(void* /*address*/) {}
inline void Release(void* /*address*/) {}
#endif

}  // namespace cuda_emulation::sanitizers
