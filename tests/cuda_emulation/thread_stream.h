// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// A stream for code that does not make its own context.
#pragma once

#include "rulebook/cuda_context.h"

namespace cuda_emulation {

// The calling thread's context, which lives as long as the thread.
rulebook::CudaContext& ThreadContext();

}  // namespace cuda_emulation
