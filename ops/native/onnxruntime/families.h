// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// The operator families, one file each. Every function adds its family's operators, one per element
// type, for device D.
#pragma once

#include "operator.h"
#include "rulebook/context.h"

namespace voxgate {

template <rulebook::Device D>
void AddRulebookOperators(OperatorList& list);
template <rulebook::Device D>
void AddConvolutionOperators(OperatorList& list);
template <rulebook::Device D>
void AddPoolingOperators(OperatorList& list);
template <rulebook::Device D>
void AddDenseOperators(OperatorList& list);
template <rulebook::Device D>
void AddRowOperators(OperatorList& list);
template <rulebook::Device D>
void AddPointOperators(OperatorList& list);

// The end of a family's file: its operators for the devices this library is built for. In namespace
// voxgate.
#if defined(VOXGATE_HAS_CUDA)
#define VOXGATE_FAMILY(Add)                                 \
  template void Add<rulebook::Device::kCpu>(OperatorList&); \
  template void Add<rulebook::Device::kCuda>(OperatorList&)
#else
#define VOXGATE_FAMILY(Add) template void Add<rulebook::Device::kCpu>(OperatorList&)
#endif

}  // namespace voxgate
