// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// mma.h: tensor cores by nvcuda::wmma. Which lane holds which element of a fragment is not the
// hardware's: kernels must not know it. Accumulators are float32.
#pragma once

#include <cstdint>

#include "half.h"

namespace cuda_emulation {

// One lane's part of D = A B + C. Lane l holds elements [l * n, (l + 1) * n) of each matrix, row
// by row.
struct MatrixMultiply {
  int m, n, k;
  float a[32], b[32], c[32], d[32];
};

// Called once with every lane's part.
void MultiplyMatrices(void* const* lanes);

// Waits for the whole warp, without ordering memory.
inline void ConvergeWarp() { WarpExchange(WarpOperation::kBallot, 0xFFFFFFFFU, 1, 0); }

inline float MatrixElement(float value) { return value; }
inline float MatrixElement(__half value) { return __half2float(value); }
inline float MatrixElement(__nv_bfloat16 value) { return __bfloat162float(value); }

// The 13 bits that tf32 lacks, dropped after half a unit of the last that it has was added.
inline float Tf32(float value, uint32_t half_unit) {
  const uint32_t bits = FromWord<uint32_t>(ToWord(value)) + half_unit;
  return FromWord<float>(bits & 0xFFFFE000U);
}

}  // namespace cuda_emulation

namespace nvcuda::wmma {

struct matrix_a;
struct matrix_b;
struct accumulator;
struct row_major;
struct col_major;
namespace precision {
struct tf32;
}
enum layout_t { mem_row_major, mem_col_major };

template <typename T>
struct Element {
  using Type = T;
};
template <>
struct Element<precision::tf32> {
  using Type = float;
};

template <typename Use, int m, int n, int k, typename T, typename Layout = void>
struct fragment {
  static constexpr int kRows = std::is_same_v<Use, matrix_b> ? k : m;
  static constexpr int kColumns = std::is_same_v<Use, matrix_a> ? k : n;
  static constexpr int num_elements = kRows * kColumns / 32;
  static_assert(!std::is_same_v<Use, accumulator> || std::is_same_v<T, float>);
  using element_type = typename Element<T>::Type;
  using storage_element_type = element_type;

  element_type x[num_elements];
};

// cvt.rna.tf32.f32: to the nearest, ties away from zero; NaN becomes the one NaN that has all bits.
inline float __float_to_tf32(float value) {
  if (value != value) return cuda_emulation::FromWord<float>(0x7FFFFFFFU);
  return cuda_emulation::Tf32(value, 0x1000U);
}

template <typename Fragment, typename Value>
void fill_fragment(Fragment& fragment, const Value& value) {
  for (auto& x : fragment.x) x = value;
}

namespace internal {

template <typename Fragment, typename T, typename Visit>
void ForElements(Fragment& fragment, T* memory, unsigned pitch, bool row_major,
                 const Visit& visit) {
  cuda_emulation::ConvergeWarp();
  if (reinterpret_cast<uintptr_t>(memory) % 32 != 0 || pitch * sizeof(T) % 16 != 0) {
    cuda_emulation::Fail("a matrix in memory not aligned to 32 bytes, its rows to 16");
  }
  for (int i = 0; i < Fragment::num_elements; ++i) {
    const int element = cuda_emulation::Lane() * Fragment::num_elements + i;
    const auto row = static_cast<size_t>(element / Fragment::kColumns);
    const auto column = static_cast<size_t>(element % Fragment::kColumns);
    visit(fragment.x[i], memory[row_major ? row * pitch + column : column * pitch + row]);
  }
}

}  // namespace internal

template <typename Use, int m, int n, int k, typename T, typename Layout, typename Memory>
void load_matrix_sync(fragment<Use, m, n, k, T, Layout>& to, const Memory* from, unsigned pitch) {
  internal::ForElements(to, from, pitch, std::is_same_v<Layout, row_major>,
                        [](auto& x, const auto& value) { x = value; });
}
template <int m, int n, int k>
void load_matrix_sync(fragment<accumulator, m, n, k, float>& to, const float* from, unsigned pitch,
                      layout_t layout) {
  internal::ForElements(to, from, pitch, layout == mem_row_major,
                        [](float& x, const float& value) { x = value; });
}
template <int m, int n, int k>
void store_matrix_sync(float* to, const fragment<accumulator, m, n, k, float>& from, unsigned pitch,
                       layout_t layout) {
  internal::ForElements(from, to, pitch, layout == mem_row_major,
                        [](const float& x, float& value) { value = x; });
}

template <int m, int n, int k, typename T, typename LayoutA, typename LayoutB>
void mma_sync(fragment<accumulator, m, n, k, float>& d,
              const fragment<matrix_a, m, n, k, T, LayoutA>& a,
              const fragment<matrix_b, m, n, k, T, LayoutB>& b,
              const fragment<accumulator, m, n, k, float>& c) {
  const auto element = [](auto value) {
    const float x = cuda_emulation::MatrixElement(value);
    return std::is_same_v<T, precision::tf32> ? cuda_emulation::Tf32(x, 0) : x;
  };
  cuda_emulation::MatrixMultiply part{};
  part.m = m;
  part.n = n;
  part.k = k;
  for (int i = 0; i < a.num_elements; ++i) part.a[i] = element(a.x[i]);
  for (int i = 0; i < b.num_elements; ++i) part.b[i] = element(b.x[i]);
  for (int i = 0; i < c.num_elements; ++i) part.c[i] = c.x[i];
  cuda_emulation::WarpExchange(cuda_emulation::WarpOperation::kCall, 0xFFFFFFFFU,
                               reinterpret_cast<uint64_t>(&part),
                               reinterpret_cast<uint64_t>(&cuda_emulation::MultiplyMatrices));
  for (int i = 0; i < d.num_elements; ++i) d.x[i] = part.d[i];
}

}  // namespace nvcuda::wmma
