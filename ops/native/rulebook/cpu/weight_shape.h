// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#pragma once

#include "rulebook/convolution.h"

namespace rulebook::cpu {

// Throws what PackWeight promises to.
void CheckWeightShape(const WeightShape& shape);

}  // namespace rulebook::cpu
