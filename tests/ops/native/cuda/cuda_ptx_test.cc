// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// Instructions written as PTX do what the language's own do, lane by lane.
#include <cstdint>
#include <vector>

#include "check.h"
#include "device_support.h"
#include "element.h"
#include "ptx.h"

using support::DeviceArray;

namespace {

namespace wmma = nvcuda::wmma;
using rulebook::cuda::kWarpSize;

constexpr int kPitch = 24;

// One warp: equal[lane] tells whether all its elements of the fragment are the same in both ways.
template <typename Use, int kDepth, typename T, typename Memory>
__global__ void LoadBoth(int32_t* equal) {
  VOXGATE_SHARED(Memory, matrix, [16][kPitch]);
  const auto lane = static_cast<int>(threadIdx.x);
  for (int i = lane; i < 16 * kPitch; i += kWarpSize) {
    matrix[i / kPitch][i % kPitch] = rulebook::cuda::FromFloat<Memory>(static_cast<float>(i % 251));
  }
  __syncwarp();
  wmma::fragment<Use, 16, 16, kDepth, T, wmma::row_major> ours;
  wmma::fragment<Use, 16, 16, kDepth, T, wmma::row_major> theirs;
  rulebook::cuda::LoadSharedMatrix(ours, &matrix[0][0], kPitch);
  wmma::load_matrix_sync(theirs, &matrix[0][0], kPitch);
  int32_t same = 1;
  for (int i = 0; i < ours.num_elements; ++i) {
    if (rulebook::cuda::ToFloat(ours.x[i]) != rulebook::cuda::ToFloat(theirs.x[i])) same = 0;
  }
  equal[lane] = same;
}

template <typename Use, int kDepth, typename T, typename Memory>
void CheckLoad() {
  support::OnDevices([](rulebook::CudaContext& context) {
    const DeviceArray<int32_t> equal(context, kWarpSize);
    rulebook::cuda::Launch(context, rulebook::cuda::OneThreadEach(kWarpSize, kWarpSize),
                           &LoadBoth<Use, kDepth, T, Memory>, equal.get());
    CHECK(equal.Read() == std::vector<int32_t>(kWarpSize, 1));
  });
}

}  // namespace

TEST(MatricesInSharedMemory) {
  CheckLoad<wmma::matrix_a, 16, __half, __half>();
  CheckLoad<wmma::matrix_b, 16, __half, __half>();
  CheckLoad<wmma::matrix_a, 16, __nv_bfloat16, __nv_bfloat16>();
  CheckLoad<wmma::matrix_b, 16, __nv_bfloat16, __nv_bfloat16>();
  CheckLoad<wmma::matrix_a, 8, wmma::precision::tf32, float>();
  CheckLoad<wmma::matrix_b, 8, wmma::precision::tf32, float>();
}
