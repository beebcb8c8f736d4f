// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// Counts and times one node's calls.
#pragma once

#include <onnxruntime_cxx_api.h>

#include "context.h"
#include "operator_counters.h"

namespace voxgate {

template <rulebook::Device D>
class NodeClock;

template <>
class NodeClock<rulebook::Device::kCpu> {
 public:
  NodeClock(OperatorCounter& counter, const NodeDevice<rulebook::Device::kCpu>& /*node*/)
      : counter_(counter) {}

  // Counts one call, from its construction to its destruction.
  class Call {
   public:
    Call(NodeClock& clock, const OrtKernelContext* /*kernel*/) noexcept
        : counted_(clock.counter_) {}

   private:
    CountedCall counted_;
  };

 private:
  OperatorCounter& counter_;
};

}  // namespace voxgate

#if defined(VOXGATE_HAS_CUDA)
#include "cuda/node_clock_cuda.h"
#endif
