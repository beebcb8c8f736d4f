// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace voxgate {

// Asks the system to back this memory, and what shares its pages, with large pages when it is first
// written: gathering rows touches so many pages that looking them up took 5 % of a network's time.
// Small memory is left alone. Without large pages to be had, nothing changes.
void AdviseHugePages(void* memory, int64_t bytes);

}  // namespace voxgate
