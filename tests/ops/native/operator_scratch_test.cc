// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// Scratch memory by stream, on an allocator that can run out.
#define ORT_API_MANUAL_INIT  // the test brings the functions
#include <onnxruntime_cxx_api.h>

#include <cstdlib>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <vector>

#include "../../../ops/native/onnxruntime/cuda/device_memory.cc"
#include "../../../ops/native/onnxruntime/cuda/scratch.cc"
#include "check.h"

namespace {

using voxgate::ScratchStack;
using voxgate::SessionScratch;

constexpr size_t kMegabyte = size_t{1} << 20U;

// A session's allocator. Its address also stands for the node's OrtKernelInfo.
struct Allocator : OrtAllocator {
  size_t limit = SIZE_MAX;  // bytes of one piece
  int calls = 0;
  int pieces = 0;

  Allocator() : OrtAllocator{} {
    version = ORT_API_VERSION;
    Reserve = [](OrtAllocator* self, size_t bytes) {
      auto* const allocator = static_cast<Allocator*>(self);
      ++allocator->calls;
      if (bytes > allocator->limit) throw std::runtime_error("the arena is full");
      ++allocator->pieces;
      return std::malloc(bytes);
    };
    Free = [](OrtAllocator* self, void* memory) {
      --static_cast<Allocator*>(self)->pieces;
      std::free(memory);
    };
    Info = [](const OrtAllocator* self) { return reinterpret_cast<const OrtMemoryInfo*>(self); };
  }

  const OrtKernelInfo* node() { return reinterpret_cast<const OrtKernelInfo*>(this); }
};

// The three functions that the code under test asks of ONNX Runtime.
void UseFakeApi() {
  alignas(OrtApi) static unsigned char memory[sizeof(OrtApi)];
  auto* const api = reinterpret_cast<OrtApi*>(memory);
  api->KernelInfoGetAllocator = [](const OrtKernelInfo* info, OrtMemType /*type*/,
                                   OrtAllocator** out) noexcept -> OrtStatus* {
    *out = reinterpret_cast<Allocator*>(const_cast<OrtKernelInfo*>(info));
    return nullptr;
  };
  api->MemoryInfoGetId = [](const OrtMemoryInfo* /*info*/, int* id) noexcept -> OrtStatus* {
    *id = 3;
    return nullptr;
  };
  api->ReleaseAllocator = [](OrtAllocator* /*allocator*/) noexcept {};
  Ort::InitApi(api);
}

struct Session {
  Allocator allocator;
  std::shared_ptr<SessionScratch> scratch;

  Session() {
    UseFakeApi();
    scratch = SessionScratch::Of(allocator.node());
  }
};

CUstream_st* Stream(uintptr_t number) { return reinterpret_cast<CUstream_st*>(number); }

}  // namespace

TEST(MemoryIsTakenAgainInTheOrderOfAStack) {
  Session session;
  const auto stack = session.scratch->Take(Stream(1));
  void* a = stack->Push(1000);
  void* b = stack->Push(1);
  CHECK_EQ(reinterpret_cast<uintptr_t>(b) - reinterpret_cast<uintptr_t>(a), 1024U);
  stack->Pop(a);  // not the top: b is still used
  void* c = stack->Push(10);
  CHECK(c != a && c != b);
  std::memset(b, 1, 1);
  std::memset(c, 2, 10);
  stack->Pop(c);
  stack->Pop(b);
  CHECK_EQ(stack->Push(5), a);
  CHECK_EQ(session.allocator.pieces, 1);
}

TEST(OnceGrownNoCallAllocates) {
  Session session;
  const auto stack = session.scratch->Take(Stream(1));
  int after_first = 0;
  for (int call = 0; call < 3; ++call) {
    std::vector<void*> taken;
    for (const size_t megabytes : {1, 3, 1, 9, 2}) {
      taken.push_back(stack->Push(megabytes * kMegabyte));
      std::memset(taken.back(), call, megabytes * kMegabyte);
    }
    for (size_t i = taken.size(); i-- > 0;) stack->Pop(taken[i]);
    if (call == 0) after_first = session.allocator.pieces;
    CHECK_EQ(session.allocator.pieces, after_first);
  }
  CHECK(after_first > 1);
}

TEST(WithoutMemoryItIsAnErrorAndSmallerWorkGoesOn) {
  Session session;
  session.allocator.limit = 2 * kMegabyte;
  const auto stack = session.scratch->Take(Stream(1));
  void* a = stack->Push(100);
  try {
    stack->Push(5 * kMegabyte);
    CHECK(false);
  } catch (const rulebook::Error& error) {
    CHECK(error.code() == rulebook::ErrorCode::kResourceExhausted);
    CHECK_EQ(std::string(error.what()),
             "no memory for 5242880 bytes of scratch memory on cuda:3: the arena is full");
  }
  CHECK_EQ(reinterpret_cast<uintptr_t>(stack->Push(1)) - reinterpret_cast<uintptr_t>(a), 256U);
  // Twice the memory there is would be taken, if it could be.
  stack->Push(2 * kMegabyte - 1024);
  const int calls = session.allocator.calls;
  stack->Push(kMegabyte);
  CHECK_EQ(session.allocator.calls, calls + 2);
}

TEST(AStreamGetsItsOwnMemoryBackAndNoOther) {
  Session session;
  auto one = session.scratch->Take(Stream(1));
  auto beside = session.scratch->Take(Stream(1));  // two calls at once
  auto two = session.scratch->Take(Stream(2));
  void* of_one = one->Push(10);
  void* of_two = two->Push(10);
  CHECK(of_one != beside->Push(10));
  one->Pop(of_one);
  two->Pop(of_two);
  session.scratch->GiveBack(Stream(1), std::move(one));
  session.scratch->GiveBack(Stream(2), std::move(two));
  CHECK_EQ(session.scratch->Take(Stream(2))->Push(10), of_two);
  CHECK_EQ(session.scratch->Take(Stream(1))->Push(10), of_one);
}

TEST(NodesOfASessionShareAndTheLastOneFrees) {
  Session session;
  Session other;
  auto node = SessionScratch::Of(session.allocator.node());
  CHECK(node == session.scratch);
  CHECK(node != other.scratch);
  CHECK_EQ(node->device(), 3);
  auto stack = node->Take(Stream(1));
  stack->Pop(stack->Push(10));
  node->GiveBack(Stream(1), std::move(stack));
  session.scratch.reset();
  CHECK_EQ(session.allocator.pieces, 1);
  node.reset();
  CHECK_EQ(session.allocator.pieces, 0);
  CHECK(SessionScratch::Of(session.allocator.node())->Take(Stream(1)) != nullptr);
}
