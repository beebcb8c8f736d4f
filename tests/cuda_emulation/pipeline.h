// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// cuda_pipeline.h: copies to shared memory that end somewhere between their beginning and the wait
// for them. Here each ends at one of the two, as the seed has it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "emulator.h"

namespace cuda_emulation {

template <typename Word>
void CopyWord(void* to, const void* from, size_t zeros) {
  Word word{};
  std::memcpy(&word, from, sizeof(Word) - zeros);
  *static_cast<Word*>(to) = word;
}

struct Word16 {
  uint64_t low, high;
};

inline void Perform(const PendingCopies::Copy& copy) {
  if (copy.bytes == 4) return CopyWord<uint32_t>(copy.to, copy.from, copy.zeros);
  if (copy.bytes == 8) return CopyWord<uint64_t>(copy.to, copy.from, copy.zeros);
  CopyWord<Word16>(copy.to, copy.from, copy.zeros);
}

}  // namespace cuda_emulation

inline void __pipeline_memcpy_async(void* to, const void* from, size_t bytes, size_t zeros = 0) {
  using cuda_emulation::Fail;
  if (bytes != 4 && bytes != 8 && bytes != 16) Fail("an asynchronous copy not of 4, 8 or 16 bytes");
  if (zeros > bytes) Fail("an asynchronous copy with more zeros than bytes");
  if ((reinterpret_cast<uintptr_t>(to) | reinterpret_cast<uintptr_t>(from)) % bytes != 0) {
    Fail("an asynchronous copy whose addresses are not aligned to its size");
  }
  cuda_emulation::PendingCopies& pending = cuda_emulation::Pending();
  const cuda_emulation::PendingCopies::Copy copy{to, from, bytes, zeros, pending.group};
  if (cuda_emulation::Random() % 2 == 0) return cuda_emulation::Perform(copy);
  if (pending.count == cuda_emulation::PendingCopies::kMax) Fail("too many asynchronous copies");
  pending.copy[pending.count++] = copy;
}

inline void __pipeline_commit() { ++cuda_emulation::Pending().group; }

// Waits for all groups but the last `groups`.
inline void __pipeline_wait_prior(size_t groups) {
  cuda_emulation::PendingCopies& pending = cuda_emulation::Pending();
  size_t kept = 0;
  for (size_t i = 0; i < pending.count; ++i) {
    const cuda_emulation::PendingCopies::Copy copy = pending.copy[i];
    if (copy.group + groups < pending.group) {
      cuda_emulation::Perform(copy);
    } else {
      pending.copy[kept++] = copy;
    }
  }
  pending.count = kept;
}
