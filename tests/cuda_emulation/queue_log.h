// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// What a program asks of the emulated device, a line each, in the file that the variable
// VOXGATE_EMULATED_QUEUE names; nothing where it is not set. Figures in docs/cuda.md come from it.
//
//   launch <threads> <dynamic shared bytes> <address of the kernel in its file> <file>
//   copy|fill|sort|sum|wait
//
// Addresses are those that `nm` prints.
#pragma once

namespace cuda_emulation {

struct Kernel;

void LogLaunch(const Kernel& kernel);

// What is no kernel of ours: copy, fill, sort, sum, wait.
void LogCall(const char* what);

}  // namespace cuda_emulation
