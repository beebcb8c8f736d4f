// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#include "shared_memory.h"

#include <sys/mman.h>

#include <new>

#include "emulator.h"
#include "sanitizers.h"

namespace cuda_emulation {

// Not memset: ThreadSanitizer would see it, and call it a race.
void FillWithPoison(void* memory, size_t bytes) {
  volatile auto* to = static_cast<unsigned char*>(memory);
  for (size_t i = 0; i < bytes; ++i) to[i] = kPoison;
}

SharedMemory::SharedMemory() {
  void* arena =
      mmap(nullptr, kArenaBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (arena == MAP_FAILED) throw std::bad_alloc();
  arena_ = static_cast<unsigned char*>(arena);
  sanitizers::Poison(arena_, kArenaBytes);
}

SharedMemory::~SharedMemory() { munmap(arena_, kArenaBytes); }

void SharedMemory::Reset() {
  sanitizers::Poison(arena_, used_);
  used_ = bytes_ = arrays_ = 0;
}

void* SharedMemory::Find(const void* key) const {
  for (size_t i = 0; i < arrays_; ++i) {
    if (array_[i].key == key) return array_[i].data;
  }
  return nullptr;
}

void* SharedMemory::Add(const void* key, size_t bytes) {
  bytes_ += bytes;
  const size_t room = kRedzone + (bytes + 31) / 32 * 32 + kRedzone;
  if (arrays_ == kMaxArrays || bytes_ > kMaxBytes || used_ + room > kArenaBytes) return nullptr;
  unsigned char* begin = arena_ + used_;
  unsigned char* data = begin + kRedzone;
  sanitizers::Unpoison(begin, room);
  FillWithPoison(begin, room);
  sanitizers::Poison(begin, kRedzone);
  sanitizers::Poison(data + bytes, room - kRedzone - bytes);
  used_ += room;
  array_[arrays_++] = {key, data, bytes};
  return data;
}

bool SharedMemory::RedzonesIntact() const {
  for (size_t i = 0; i < arrays_; ++i) {
    const unsigned char* data = array_[i].data;
    sanitizers::Unpoison(data - kRedzone, kRedzone + array_[i].bytes + kRedzone);
    for (size_t b = 1; b <= kRedzone; ++b) {
      if (data[-static_cast<ptrdiff_t>(b)] != kPoison) return false;
      if (data[array_[i].bytes + b - 1] != kPoison) return false;
    }
  }
  return true;
}

}  // namespace cuda_emulation
