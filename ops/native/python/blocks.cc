// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#include "blocks.h"

#include <array>
#include <limits>
#include <mutex>
#include <new>

namespace voxgate {
namespace {

constexpr size_t kAlignment = 64;
// Smaller blocks malloc keeps itself; larger ones are rare, and worth giving back.
constexpr size_t kMinKept = size_t{1} << 16;
constexpr size_t kMaxKept = size_t{1} << 24;
// All that is kept for later, whatever was in use at the peak.
constexpr size_t kMaxIdle = size_t{1} << 26;
// Four sizes between a power of two and the next, so that at most a quarter of a block lies idle.
constexpr size_t kStepsPerDoubling = 4;
constexpr size_t kClasses = 4 * (24 - 16) + 1;

// In front of every block, on a line of its own.
struct alignas(kAlignment) Header {
  size_t capacity;
  Header* next;
};

// The smallest class that holds `bytes`, kMinKept <= bytes <= kMaxKept, and its capacity.
size_t ClassOf(size_t bytes, size_t* capacity) {
  size_t power = kMinKept;
  size_t index = 0;
  while (2 * power <= bytes) {
    power *= 2;
    index += kStepsPerDoubling;
  }
  const size_t step = power / kStepsPerDoubling;
  const size_t steps = (bytes - power + step - 1) / step;
  *capacity = power + steps * step;
  return index + steps;
}

// Idle blocks by class, the one that was used last on top: its lines may still be in a cache.
class IdleBlocks {
 public:
  Header* Take(size_t index) {
    const std::lock_guard<std::mutex> lock(mutex_);
    Header* header = tops_[index];
    if (header != nullptr) {
      tops_[index] = header->next;
      idle_ -= header->capacity;
    }
    return header;
  }

  bool Give(Header* header, size_t index) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (idle_ + header->capacity > kMaxIdle) return false;
    idle_ += header->capacity;
    header->next = tops_[index];
    tops_[index] = header;
    return true;
  }

 private:
  std::mutex mutex_;
  std::array<Header*, kClasses> tops_{};
  size_t idle_ = 0;
};

IdleBlocks& Idle() {
  static IdleBlocks* idle = new IdleBlocks;  // outlives every array, those of exiting Python too
  return *idle;
}

bool IsKept(size_t bytes) { return bytes >= kMinKept && bytes <= kMaxKept; }

}  // namespace

void* TakeBlock(size_t bytes) {
  size_t capacity = bytes;
  if (IsKept(bytes)) {
    const size_t index = ClassOf(bytes, &capacity);
    if (Header* header = Idle().Take(index)) return header + 1;
  }
  if (capacity > std::numeric_limits<size_t>::max() - sizeof(Header)) throw std::bad_alloc();
  void* memory = ::operator new(sizeof(Header) + capacity, std::align_val_t{kAlignment});
  return new (memory) Header{capacity, nullptr} + 1;
}

void GiveBlock(void* block) noexcept {
  if (block == nullptr) return;
  Header* header = static_cast<Header*>(block) - 1;
  size_t capacity = 0;
  if (IsKept(header->capacity) && Idle().Give(header, ClassOf(header->capacity, &capacity))) return;
  ::operator delete(header, std::align_val_t{kAlignment});
}

}  // namespace voxgate
