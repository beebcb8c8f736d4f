// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#include "operator_library.h"

#if defined(VOXGATE_HAS_CUDA)
#include "rulebook/cuda_context.h"

int VoxgateHasCuda() { return 1; }
int VoxgateCudaDeviceCount() { return rulebook::CudaDeviceCount(); }
#else
int VoxgateHasCuda() { return 0; }
int VoxgateCudaDeviceCount() { return 0; }
#endif
