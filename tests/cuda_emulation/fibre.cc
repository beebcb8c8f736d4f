// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#include "fibre.h"

#include <sys/mman.h>

#include <cstdint>
#include <new>

#include "sanitizers.h"

#if defined(__x86_64__)
// Saves what a called function keeps for its caller, and takes the other stack's.
extern "C" void voxgate_switch_stack(void** save, void* load);
// Where a new stack begins: calls r12 with rbx.
extern "C" void voxgate_start_fibre();
asm(R"(
.text
.globl voxgate_switch_stack
.hidden voxgate_switch_stack
.type voxgate_switch_stack, @function
voxgate_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size voxgate_switch_stack, . - voxgate_switch_stack
.globl voxgate_start_fibre
.hidden voxgate_start_fibre
.type voxgate_start_fibre, @function
voxgate_start_fibre:
  pushq $0
  movq %rbx, %rdi
  call *%r12
.size voxgate_start_fibre, . - voxgate_start_fibre
)");
#endif

namespace cuda_emulation {
namespace {

constexpr size_t kGuardBytes = 4096;
constexpr size_t kStackBytes = size_t{256} << 10U;

}  // namespace

Fibre::Fibre(void (*entry)(void*), void* argument) : entry_(entry), argument_(argument) {
  void* memory = mmap(nullptr, kGuardBytes + kStackBytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  memory_ = static_cast<unsigned char*>(memory);
  mprotect(memory_, kGuardBytes, PROT_NONE);
  thread_sanitizer_ = sanitizers::CreateFibre();
#if defined(__x86_64__)
  auto* top = reinterpret_cast<void**>(memory_ + kGuardBytes + kStackBytes);
  // Six registers, where "ret" goes, and one word that aligns the stack as a call does.
  void** frame = top - 8;
  for (int i = 0; i < 8; ++i) frame[i] = nullptr;
  frame[3] = reinterpret_cast<void*>(&Main);  // r12
  frame[4] = this;                            // rbx
  frame[6] = reinterpret_cast<void*>(&voxgate_start_fibre);
  stack_pointer_ = frame;
#else
  getcontext(&context_);
  context_.uc_stack.ss_sp = memory_ + kGuardBytes;
  context_.uc_stack.ss_size = kStackBytes;
  context_.uc_link = nullptr;
  const auto bits = reinterpret_cast<uintptr_t>(this);
  makecontext(&context_, reinterpret_cast<void (*)()>(&MainOfHalves), 2,
              static_cast<unsigned>(bits), static_cast<unsigned>(uint64_t{bits} >> 32U));
#endif
}

Fibre::~Fibre() {
  sanitizers::DestroyFibre(thread_sanitizer_);
  sanitizers::Unpoison(memory_ + kGuardBytes, kStackBytes);
  munmap(memory_, kGuardBytes + kStackBytes);
}

void Fibre::Main(Fibre* fibre) {
  sanitizers::FinishSwitch(nullptr, &fibre->owner_stack_, &fibre->owner_stack_bytes_);
  fibre->entry_(fibre->argument_);
  __builtin_trap();  // an entry never returns
}

void Fibre::MainOfHalves(unsigned low, unsigned high) {
  const uint64_t bits = (uint64_t{high} << 32U) | low;
  Main(reinterpret_cast<Fibre*>(static_cast<uintptr_t>(bits)));
}

void Fibre::Resume() {
  void* fake_stack = nullptr;
  owner_thread_sanitizer_ = sanitizers::CurrentFibre();
  sanitizers::StartSwitch(&fake_stack, memory_ + kGuardBytes, kStackBytes);
  sanitizers::SwitchToFibre(thread_sanitizer_);
#if defined(__x86_64__)
  voxgate_switch_stack(&owner_stack_pointer_, stack_pointer_);
#else
  swapcontext(&owner_context_, &context_);
#endif
  sanitizers::FinishSwitch(fake_stack, nullptr, nullptr);
}

void Fibre::Suspend() {
  sanitizers::StartSwitch(&fake_stack_, owner_stack_, owner_stack_bytes_);
  sanitizers::SwitchToFibre(owner_thread_sanitizer_);
#if defined(__x86_64__)
  voxgate_switch_stack(&stack_pointer_, owner_stack_pointer_);
#else
  swapcontext(&context_, &owner_context_);
#endif
  sanitizers::FinishSwitch(fake_stack_, &owner_stack_, &owner_stack_bytes_);
}

}  // namespace cuda_emulation
