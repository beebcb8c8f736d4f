// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#include "scratch.h"

#include <algorithm>

#include "rulebook/cuda_context.h"
#include "rulebook/error.h"

namespace voxgate {
namespace {

constexpr size_t kSmallestSegment = size_t{1} << 20U;

size_t Rounded(size_t bytes) {
  constexpr size_t kAlignment = rulebook::CudaContext::kAlignment;
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

}  // namespace

ScratchStack::~ScratchStack() {
  for (const Segment& segment : segments_) memory_.Free(segment.memory);
}

void* ScratchStack::Push(size_t bytes) {
  const size_t size = Rounded(bytes);
  blocks_.reserve(blocks_.size() + 1);
  Block block{nullptr, segment_, used_, false};
  MakeRoom(size);
  block.memory = segments_[segment_].memory + used_;
  used_ += size;
  blocks_.push_back(block);
  return block.memory;
}

void ScratchStack::MakeRoom(size_t bytes) {
  size_t all = kSmallestSegment;
  for (size_t i = 0; i < segments_.size(); ++i) {
    all += segments_[i].bytes;
    const size_t used = i == segment_ ? used_ : 0;
    if (i < segment_ || segments_[i].bytes - used < bytes) continue;
    segment_ = i;
    used_ = used;
    return;
  }
  segments_.reserve(segments_.size() + 1);
  size_t size = std::max(bytes, all);
  void* memory = nullptr;
  try {
    memory = memory_.Allocate(size, "scratch memory");
  } catch (const rulebook::Error&) {
    if (size == bytes) throw;
    size = bytes;  // no room to spare
    memory = memory_.Allocate(size, "scratch memory");
  }
  segments_.push_back({static_cast<char*>(memory), size});
  segment_ = segments_.size() - 1;
  used_ = 0;
}

void ScratchStack::Pop(void* memory) noexcept {
  for (size_t i = blocks_.size(); i-- > 0;) {
    if (blocks_[i].memory != memory || blocks_[i].popped) continue;
    blocks_[i].popped = true;
    break;
  }
  while (!blocks_.empty() && blocks_.back().popped) {
    segment_ = blocks_.back().segment;
    used_ = blocks_.back().used;
    blocks_.pop_back();
  }
}

std::shared_ptr<SessionScratch> SessionScratch::Of(const OrtKernelInfo* info) {
  // Never freed: sessions may end after this library's destructors.
  static auto* const mutex = new std::mutex;
  static auto* const known = new std::vector<std::weak_ptr<SessionScratch>>;
  auto made = std::make_shared<SessionScratch>(info);
  const std::lock_guard<std::mutex> lock(*mutex);
  known->erase(std::remove_if(known->begin(), known->end(),
                              [](const auto& scratch) { return scratch.expired(); }),
               known->end());
  for (const auto& weak : *known) {
    const auto scratch = weak.lock();
    if (scratch != nullptr && scratch->identity() == made->identity()) return scratch;
  }
  known->push_back(made);
  return made;
}

std::unique_ptr<ScratchStack> SessionScratch::Take(CUstream_st* stream) {
  const std::lock_guard<std::mutex> lock(mutex_);
  for (auto& entry : idle_) {
    if (entry.first != stream) continue;
    std::swap(entry, idle_.back());
    std::unique_ptr<ScratchStack> taken = std::move(idle_.back().second);
    idle_.pop_back();
    return taken;
  }
  idle_.reserve(stacks_ + 1);  // GiveBack must not throw
  auto made = std::make_unique<ScratchStack>(memory_);
  ++stacks_;
  return made;
}

void SessionScratch::GiveBack(CUstream_st* stream, std::unique_ptr<ScratchStack> stack) noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  idle_.emplace_back(stream, std::move(stack));
}

}  // namespace voxgate
