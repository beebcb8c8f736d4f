// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#pragma once

namespace rulebook::cpu {

// A box seen from above, in float64.
struct BevBox {
  double x;
  double y;
  double half_dx;
  double half_dy;
  double cos_yaw;
  double sin_yaw;
  double area;    // 0 when a side is not above 0
  double radius;  // of the circle around it
};

// box: (x, y, z, dx, dy, dz, yaw).
BevBox MakeBevBox(const float* box);

// Intersection over union, in [0, 1]; 0 when either has no area.
double BevIou(const BevBox& a, const BevBox& b);

}  // namespace rulebook::cpu
