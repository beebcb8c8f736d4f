// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

namespace rulebook {

// kAmx is kAvx512 with convolutions on the tile unit.
enum class Isa { kGeneric, kAvx2, kAvx512, kAmx };

// The instruction set the kernels use: the best this processor has, or the one named by the
// environment variable VOXGATE_CPU_ISA (generic, avx2, avx512, amx), read once. Throws Error when
// that names an unknown set or one this processor lacks.
Isa CurrentIsa();

const char* ToString(Isa isa);

// What this processor can run, generic first.
std::vector<Isa> SupportedIsas();

}  // namespace rulebook
