// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>

namespace cuda_emulation {

// Makes memory full of kPoison.
void FillWithPoison(void* memory, size_t bytes);

// The shared arrays of the block that runs at one place, each between two red zones.
class SharedMemory {
 public:
  SharedMemory();  // throws std::bad_alloc
  SharedMemory(const SharedMemory&) = delete;
  SharedMemory& operator=(const SharedMemory&) = delete;
  ~SharedMemory();

  // Forgets all arrays: a block begins.
  void Reset();

  // The array that was added under `key`; null: none was.
  void* Find(const void* key) const;

  // Null when it does not fit.
  void* Add(const void* key, size_t bytes);

  // Whether no thread wrote beside an array. Reads there only AddressSanitizer sees, and it stops
  // the program before this is asked.
  bool RedzonesIntact() const;

 private:
  static constexpr size_t kMaxArrays = 64;
  static constexpr size_t kMaxBytes = size_t{227} << 10U;  // of a block, on sm_90
  static constexpr size_t kRedzone = 64;
  static constexpr size_t kArenaBytes = kMaxBytes + (kMaxArrays + 2) * 2 * kRedzone;

  struct Array {
    const void* key;
    unsigned char* data;
    size_t bytes;
  };

  unsigned char* arena_;
  size_t used_ = 0;   // of the arena
  size_t bytes_ = 0;  // of all arrays
  size_t arrays_ = 0;
  Array array_[kMaxArrays];
};

}  // namespace cuda_emulation
