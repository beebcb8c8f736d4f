// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// The emulator's 16-bit types against their definition, its tensor cores against plain loops.
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#include "check.h"
#include "element.h"
#include "support.h"

using rulebook::cuda::FromFloat;
using rulebook::cuda::ToFloat;
using support::Random;

namespace {

namespace wmma = nvcuda::wmma;

// Every finite value comes back; the middle of two neighbours rounds to the even one, anything
// beside it to the nearer.
template <typename T>
void CheckRounding(uint16_t infinity) {
  for (uint16_t bits = 0; bits < infinity; ++bits) {
    const float value = ToFloat(T{bits});
    CHECK_EQ(FromFloat<T>(value).bits, bits);
    CHECK_EQ(FromFloat<T>(-value).bits, bits | 0x8000);
    if (bits + 1 == infinity) break;
    const float next = ToFloat(T{static_cast<uint16_t>(bits + 1)});
    const float middle = value + (next - value) / 2;
    CHECK_EQ(FromFloat<T>(middle).bits, bits % 2 == 0 ? bits : bits + 1);
    CHECK_EQ(FromFloat<T>(std::nextafter(middle, value)).bits, bits);
    CHECK_EQ(FromFloat<T>(std::nextafter(middle, next)).bits, bits + 1);
  }
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  CHECK_EQ(FromFloat<T>(kInfinity).bits, infinity);
  CHECK_EQ(FromFloat<T>(-kInfinity).bits, infinity | 0x8000);
  CHECK_EQ(ToFloat(T{infinity}), kInfinity);
  CHECK(std::isnan(ToFloat(FromFloat<T>(std::numeric_limits<float>::quiet_NaN()))));
}

// One warp multiplies an m x k by a k x n matrix.
template <int m, int n, int k, typename T, typename Memory, typename LayoutB>
void Multiply(const Memory* a, const Memory* b, float* c) {
  wmma::fragment<wmma::matrix_a, m, n, k, T, wmma::row_major> left;
  wmma::fragment<wmma::matrix_b, m, n, k, T, LayoutB> right;
  wmma::fragment<wmma::accumulator, m, n, k, float> sum;
  wmma::fill_fragment(sum, 0.5F);
  wmma::load_matrix_sync(left, a, k);
  wmma::load_matrix_sync(right, b, std::is_same_v<LayoutB, wmma::row_major> ? n : k);
  wmma::mma_sync(sum, left, right, sum);
  wmma::store_matrix_sync(c, sum, n, wmma::mem_row_major);
}

template <int m, int n, int k, typename T, typename Memory, typename LayoutB>
void CheckMultiply() {
  const auto context = cuda_emulation::MakeContext(1);
  alignas(32) Memory a[m * k];
  alignas(32) Memory b[k * n];
  alignas(32) float c[m * n];
  Random random(m * 100 + n);
  // Small integers, so that every type and order of summation gives the same.
  for (auto& value : a) value = FromFloat<Memory>(static_cast<float>(random.Below(17) - 8));
  for (auto& value : b) value = FromFloat<Memory>(static_cast<float>(random.Below(17) - 8));
  rulebook::cuda::Launch(*context, rulebook::cuda::OneThreadEach(32, 32),
                         &Multiply<m, n, k, T, Memory, LayoutB>, &a[0], &b[0], &c[0]);
  for (int row = 0; row < m; ++row) {
    for (int column = 0; column < n; ++column) {
      float expected = 0.5F;
      for (int i = 0; i < k; ++i) {
        const bool by_rows = std::is_same_v<LayoutB, wmma::row_major>;
        expected += ToFloat(a[row * k + i]) * ToFloat(b[by_rows ? i * n + column : column * k + i]);
      }
      CHECK_EQ(c[row * n + column], expected);
    }
  }
}

}  // namespace

TEST(HalfRounds) {
  CheckRounding<__half>(0x7C00);
  CHECK_EQ(FromFloat<__half>(65520.0F).bits, 0x7C00);
  CHECK_EQ(FromFloat<__half>(65519.0F).bits, 0x7BFF);
  CHECK_EQ(ToFloat(__half{0x0001}), 0x1p-24F);
}

TEST(BFloat16Rounds) {
  CheckRounding<__nv_bfloat16>(0x7F80);
  CHECK_EQ(FromFloat<__nv_bfloat16>(1.0F).bits, 0x3F80);
}

TEST(HalfArithmetic) {
  const auto rounded = [](float value) { return __float2half_rn(value); };
  CHECK_EQ(ToFloat(__hadd(rounded(2048.0F), rounded(1.0F))), 2048.0F);
  CHECK_EQ(ToFloat(__hfma(rounded(3.0F), rounded(0.5F), rounded(-2.0F))), -0.5F);
  CHECK_EQ(ToFloat(__hmul(rounded(256.0F), rounded(256.0F))),
           std::numeric_limits<float>::infinity());
  CHECK(__hlt(rounded(-1.0F), rounded(0.0F)) && !__hgt(rounded(-1.0F), rounded(0.0F)));
  CHECK_EQ(ToFloat(__high2half(__floats2half2_rn(1.0F, 2.0F))), 2.0F);
}

TEST(TensorCores) {
  CheckMultiply<16, 16, 16, __half, __half, wmma::row_major>();
  CheckMultiply<16, 16, 16, __half, __half, wmma::col_major>();
  CheckMultiply<32, 8, 16, __half, __half, wmma::row_major>();
  CheckMultiply<8, 32, 16, __nv_bfloat16, __nv_bfloat16, wmma::col_major>();
  CheckMultiply<16, 16, 16, __nv_bfloat16, __nv_bfloat16, wmma::row_major>();
  CheckMultiply<16, 16, 8, wmma::precision::tf32, float, wmma::row_major>();
}

// By its definition: the nearest of the values with 10 bits of mantissa, of two the larger.
TEST(TensorFloat32Rounds) {
  Random random(7);
  for (int i = 0; i < 200'000; ++i) {
    uint32_t bits = random.Next() << 1U ^ random.Next();
    if (i % 4 == 0) bits = (bits & 0xFFFFE000U) | 0x1000U;  // between two of them
    float value = 0.0F;
    std::memcpy(&value, &bits, sizeof value);
    if (!std::isnormal(value)) continue;
    int exponent = 0;
    const double fraction = std::frexp(static_cast<double>(value), &exponent);
    const double expected = std::ldexp(std::round(fraction * 2048.0), exponent - 11);
    CHECK_EQ(wmma::__float_to_tf32(value), static_cast<float>(expected));
  }
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  CHECK_EQ(wmma::__float_to_tf32(1.0F + 0x1p-11F), 1.0F + 0x1p-10F);
  CHECK_EQ(wmma::__float_to_tf32(-1.0F - 0x1p-11F), -1.0F - 0x1p-10F);
  CHECK_EQ(wmma::__float_to_tf32(1.0F + 0x1p-12F), 1.0F);
  CHECK_EQ(wmma::__float_to_tf32(std::numeric_limits<float>::max()), kInfinity);
  CHECK_EQ(wmma::__float_to_tf32(-kInfinity), -kInfinity);
  for (const uint32_t bits : {0x7FFFFFFFU, 0xFFFFFFFFU, 0x7F800001U}) {
    float nan = 0.0F;
    std::memcpy(&nan, &bits, sizeof nan);
    CHECK(std::isnan(wmma::__float_to_tf32(nan)));
  }
}

// What has not been rounded is cut off by the tensor cores.
TEST(TensorCoresReadNineteenBits) {
  const auto context = cuda_emulation::MakeContext(1);
  alignas(32) float a[16 * 8] = {};
  alignas(32) float b[8 * 16] = {};
  alignas(32) float c[16 * 16];
  a[0] = 1.0F + 0x1.FFFp-11F;
  b[0] = 1.0F;
  rulebook::cuda::Launch(*context, rulebook::cuda::OneThreadEach(32, 32),
                         &Multiply<16, 16, 8, wmma::precision::tf32, float, wmma::row_major>, &a[0],
                         &b[0], &c[0]);
  CHECK_EQ(c[0], 1.5F);
}
