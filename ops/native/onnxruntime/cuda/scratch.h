// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// Scratch memory by stream. Work that uses it is still queued when a call returns it, so it may go
// to later work of the same stream only. ONNX Runtime keeps that order for what comes from
// KernelContext_GetScratchBuffer; but that function is noexcept and lets its arena's exception
// through (1.18 to 1.31), so a GPU without memory left would end the process. Memory from the
// session's allocator is refused with an error and knows no streams: it is kept here, by stream.
#pragma once

#include <cstddef>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "device_memory.h"

struct CUstream_st;

namespace voxgate {

// One stream's scratch memory: a stack, as operators take and return it. Once it has grown to a
// model's frames, no call allocates. Not for several threads at once.
class ScratchStack {
 public:
  explicit ScratchStack(DeviceMemory& memory) : memory_(memory) {}
  ~ScratchStack();
  ScratchStack(const ScratchStack&) = delete;
  ScratchStack& operator=(const ScratchStack&) = delete;

  void* Push(size_t bytes);
  // In any order; memory is taken again once all that was pushed after it is popped too.
  void Pop(void* memory) noexcept;

 private:
  struct Segment {
    char* memory;
    size_t bytes;
  };
  struct Block {
    void* memory;
    size_t segment;  // that was the top before it
    size_t used;     // of that segment
    bool popped;
  };

  // Makes the top segment one with room for `bytes`.
  void MakeRoom(size_t bytes);

  DeviceMemory& memory_;
  std::vector<Segment> segments_;
  std::vector<Block> blocks_;
  size_t segment_ = 0;
  size_t used_ = 0;
};

// The scratch memory of a session: a stack for each stream and call at the same time. Freed with
// the session's last node.
class SessionScratch {
 public:
  explicit SessionScratch(const OrtKernelInfo* info) : memory_(info) {}

  // The one of this node's session.
  static std::shared_ptr<SessionScratch> Of(const OrtKernelInfo* info);

  int device() const { return memory_.device(); }
  const OrtMemoryInfo* identity() const { return memory_.identity(); }

  std::unique_ptr<ScratchStack> Take(CUstream_st* stream);
  void GiveBack(CUstream_st* stream, std::unique_ptr<ScratchStack> stack) noexcept;

 private:
  DeviceMemory memory_;
  std::mutex mutex_;
  size_t stacks_ = 0;  // idle and taken
  std::vector<std::pair<CUstream_st*, std::unique_ptr<ScratchStack>>> idle_;
};

}  // namespace voxgate
