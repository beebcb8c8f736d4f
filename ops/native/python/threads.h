// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#pragma once

#include <utility>

#include "arrays.h"
#include "rulebook/context.h"

namespace voxgate {

// The pool of that many threads (0: as many as this process may run on), made at its first use and
// kept: every call that asks for the same count shares it. Throws Error for a count out of range.
rulebook::CpuContext& SharedPool(int threads);

// Calls work(context) with the GIL released.
template <typename Work>
void RunReleased(int threads, Work&& work) {
  nb::gil_scoped_release released;
  std::forward<Work>(work)(SharedPool(threads));
}

}  // namespace voxgate
