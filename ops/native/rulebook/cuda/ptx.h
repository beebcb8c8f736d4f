// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// What CUDA C++ cannot say: instructions as PTX, and the same in C++ for emulation.
#pragma once

#include "device.h"

namespace rulebook::cuda {

// wmma::load_matrix_sync of row-major operands in shared memory. Of bfloat16 and tf32, nvcc 13.0
// does not tell ptxas where the memory is, which then loads a word at a time, and turns bfloat16
// round in registers, in place of ldmatrix.
template <typename Fragment, typename T>
__device__ inline void LoadSharedMatrix(Fragment& fragment, const T* from, unsigned pitch) {
  nvcuda::wmma::load_matrix_sync(fragment, from, pitch);
}

#if defined(__CUDACC__)

#define VOXGATE_LOAD_SHARED_MATRIX(use, m, n, k, type, memory, letter, text)                       \
  __device__ inline void LoadSharedMatrix(                                                         \
      nvcuda::wmma::fragment<nvcuda::wmma::use, m, n, k, type, nvcuda::wmma::row_major>& fragment, \
      const memory* from, unsigned pitch) {                                                        \
    static_assert(sizeof(fragment.x) == 4 * sizeof(unsigned));                                     \
    auto* words = reinterpret_cast<unsigned*>(&fragment.x[0]);                                     \
    asm volatile("wmma.load." letter ".sync.aligned.row." text " {%0, %1, %2, %3}, [%4], %5;"      \
                 : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])                  \
                 : "r"(static_cast<unsigned>(__cvta_generic_to_shared(from))), "r"(pitch)          \
                 : "memory");                                                                      \
  }
VOXGATE_LOAD_SHARED_MATRIX(matrix_a, 16, 16, 16, __nv_bfloat16, __nv_bfloat16, "a",
                           "m16n16k16.shared.bf16")
VOXGATE_LOAD_SHARED_MATRIX(matrix_b, 16, 16, 16, __nv_bfloat16, __nv_bfloat16, "b",
                           "m16n16k16.shared.bf16")
VOXGATE_LOAD_SHARED_MATRIX(matrix_a, 16, 16, 8, nvcuda::wmma::precision::tf32, float, "a",
                           "m16n16k8.shared.tf32")
VOXGATE_LOAD_SHARED_MATRIX(matrix_b, 16, 16, 8, nvcuda::wmma::precision::tf32, float, "b",
                           "m16n16k8.shared.tf32")
#undef VOXGATE_LOAD_SHARED_MATRIX

#endif  // __CUDACC__

}  // namespace rulebook::cuda
