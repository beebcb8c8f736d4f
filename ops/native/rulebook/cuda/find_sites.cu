// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// Canonical sites are searched as they lie: nobody has said which grid they are of, so there are no
// keys, and a search of a few hundred thousand rows costs less than to make some.
#include "columns.h"
#include "coords_text.h"
#include "device.h"
#include "rulebook/coords.h"
#include "site_search.h"

namespace rulebook {
namespace cuda {
namespace {

template <int kColumns>
__global__ void SearchSites(const int32_t* coords, int64_t rows, const int32_t* query,
                            int64_t count, int32_t* row) {
  const int64_t p = GlobalThread();
  if (p >= count) return;
  int32_t wanted[kColumns];
#pragma unroll
  for (int c = 0; c < kColumns; ++c) wanted[c] = query[p * kColumns + c];
  const int64_t place = LowerBound<kColumns>(coords, rows, wanted);
  row[p] = IsSite<kColumns>(coords, rows, place, wanted) ? static_cast<int32_t>(place) : -1;
}

}  // namespace
}  // namespace cuda

template <>
void FindSites<Device::kCuda>(CudaContext& context, CoordsView coords, CoordsView query,
                              int32_t* row) {
  cpu::CheckCoordsView("coords", coords);
  cpu::CheckCoordsView("query", query);
  if (coords.axes != query.axes) {
    ThrowInvalid("query: ", query.axes, " spatial axes, but coords have ", coords.axes);
  }
  WithColumns(coords.columns(), [&](auto columns) {
    cuda::Launch(context, cuda::OneThreadEach(query.rows), &cuda::SearchSites<columns>, coords.data,
                 coords.rows, query.data, query.rows, row);
  });
}

}  // namespace rulebook
