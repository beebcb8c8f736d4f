// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#include "cuda_language.h"

namespace cuda_emulation {

void MultiplyMatrices(void* const* lanes) {
  constexpr int kLanes = 32;
  MatrixMultiply* part[kLanes];
  for (int lane = 0; lane < kLanes; ++lane) part[lane] = static_cast<MatrixMultiply*>(lanes[lane]);
  const int m = part[0]->m;
  const int n = part[0]->n;
  const int k = part[0]->k;
  const int a = m * k / kLanes;
  const int b = k * n / kLanes;
  const int d = m * n / kLanes;
  for (int row = 0; row < m; ++row) {
    for (int column = 0; column < n; ++column) {
      const int to = row * n + column;
      float sum = part[to / d]->c[to % d];
      for (int i = 0; i < k; ++i) {
        const int left = row * k + i;
        const int right = i * n + column;
        sum += part[left / a]->a[left % a] * part[right / b]->b[right % b];
      }
      part[to / d]->d[to % d] = sum;
    }
  }
}

}  // namespace cuda_emulation
