// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// Rulebooks in gather form: neighbors[k, o] is the input row that feeds output row o through kernel
// offset k, or -1. Offsets are row-major over the kernel, last axis fastest.
#pragma once

#include <cstdint>

#include "rulebook/context.h"
#include "rulebook/coords.h"
#include "rulebook/shape.h"

namespace rulebook {

// Which input site i feeds which output site o through kernel index k, per axis:
//   regular:    i = o * stride - padding + k * dilation
//   transposed: o = i * stride - padding + k * dilation
struct ConvGeometry {
  PerAxis kernel_size;
  PerAxis stride;
  PerAxis padding;
  PerAxis dilation;
  PerAxis output_padding;  // transposed only
  bool transposed = false;

  int axes() const { return kernel_size.axes; }
  // Throws unless every value is in range, the kernel volume is at most kMaxKernelVolume and (for
  // transposed) output_padding < max(stride, dilation).
  void Check() const;
  int64_t KernelVolume() const;
  // Regular: floor((n + 2p - d(k-1) - 1) / s) + 1. Transposed: (n-1)s - 2p + d(k-1) + 1 +
  // output_padding. Throws when an axis would come out below 1 or the result is no legal shape.
  SpatialShape OutputShape(const SpatialShape& input_shape) const;
};

// The geometry of a submanifold convolution: stride 1, padding (k/2)*d. Throws for even kernels.
ConvGeometry SubmanifoldGeometry(const PerAxis& kernel_size, const PerAxis& dilation);

// neighbors [K, N], output sites = input sites.
template <Device D>
void SubmanifoldRulebook(Context<D>& context, CoordsView coords, const SpatialShape& shape,
                         const PerAxis& kernel_size, const PerAxis& dilation, int32_t* neighbors);

struct GeneratedSites {
  int32_t* coords;     // [M, 1 + axes], canonical
  int32_t* neighbors;  // [K, M]
};

// Output sites are those that some input site feeds. `allocate(M)` is called once. Throws
// ResourceExhausted, before it has spent the memory, past kMaxSites sites or kMaxRulebookCells
// cells.
template <Device D>
void SparseRulebook(Context<D>& context, CoordsView coords, const SpatialShape& input_shape,
                    const ConvGeometry& geometry, FunctionRef<GeneratedSites(int64_t)> allocate);

// The same for exactly the output sites given (canonical in geometry.OutputShape(input_shape)).
template <Device D>
void SparseRulebookAt(Context<D>& context, CoordsView coords, const SpatialShape& input_shape,
                      const ConvGeometry& geometry, CoordsView out_coords, int32_t* neighbors);

// Swaps the roles: inverse[k, i] = o for every pair neighbors[k, o] = i; -1 elsewhere.
// neighbors [kernel_volume, outputs] with values in [-1, inputs), at most one o per (k, i): more is
// an error. inverse [kernel_volume, inputs].
template <Device D>
void InverseRulebook(Context<D>& context, const int32_t* neighbors, int64_t kernel_volume,
                     int64_t outputs, int64_t inputs, int32_t* inverse);

}  // namespace rulebook
