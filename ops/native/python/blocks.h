// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// Memory of arrays handed to Python. A server makes and drops arrays of a megabyte for every frame;
// from the system they would come as untouched pages, whose first use costs more than filling them.
#pragma once

#include <cstddef>

namespace voxgate {

// On a cache line, so that the kernels' vector stores never straddle one. Throws std::bad_alloc.
void* TakeBlock(size_t bytes);

// Gives back what TakeBlock gave; any thread may.
void GiveBlock(void* block) noexcept;

}  // namespace voxgate
