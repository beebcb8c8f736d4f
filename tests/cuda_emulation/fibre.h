// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// A stack that runs until it switches back, known to the sanitizers.
#pragma once

#include <cstddef>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace cuda_emulation {

class Fibre {
 public:
  // `entry(argument)` begins at the first Resume and never returns.
  Fibre(void (*entry)(void*), void* argument);
  Fibre(const Fibre&) = delete;
  Fibre& operator=(const Fibre&) = delete;
  ~Fibre();

  void Resume();   // from the thread that owns the fibre
  void Suspend();  // from the fibre: back to Resume

 private:
  static void Main(Fibre* fibre);
  static void MainOfHalves(unsigned low, unsigned high);

  void (*entry_)(void*);
  void* argument_;
  unsigned char* memory_ = nullptr;  // the guard page, then the stack
  void* thread_sanitizer_ = nullptr;
  void* owner_thread_sanitizer_ = nullptr;
  void* fake_stack_ = nullptr;
  const void* owner_stack_ = nullptr;
  size_t owner_stack_bytes_ = 0;
#if defined(__x86_64__)
  void* stack_pointer_ = nullptr;
  void* owner_stack_pointer_ = nullptr;
#else
  ucontext_t context_;
  ucontext_t owner_context_;
#endif
};

}  // namespace cuda_emulation
