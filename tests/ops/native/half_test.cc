// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// 16-bit floats on the CPU: the conversions bit by bit against arithmetic in float64, and every
// operator against its float32 self on the widened inputs, rounded once.
#include "rulebook/half.h"

#include <cfloat>
#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>
#include <vector>

#include "../../../ops/native/rulebook/cpu/conversion.h"
#include "../../../ops/native/rulebook/cpu/conversion_kernels.h"
#include "check.h"
#include "rulebook/dense.h"
#include "rulebook/interpolate.h"
#include "rulebook/pooling.h"
#include "rulebook/rows.h"
#include "rulebook/union.h"
#include "support.h"

using rulebook::BFloat16;
using rulebook::CpuContext;
using rulebook::Float16;
using support::Axes;
using support::Coords;
using support::kCpu;
using support::Random;
using Floats = std::vector<float>;

namespace {

constexpr int64_t kRows[] = {0, 1, 19, 989};
constexpr int64_t kChannels[] = {1, 3, 16, 33};

// Of a significand, of the smallest normal number, and the largest number.
struct Format {
  int digits;
  int min_exponent;
  double largest;
};

template <typename T>
constexpr Format kFormat = {11, -14, 65504.0};
template <>
constexpr Format kFormat<BFloat16> = {8, -126, 0x1.FEp127};

// `value` rounded to what a T can hold.
template <typename T>
float RoundedTo(float value) {
  if (!std::isfinite(value) || value == 0.0F) return value;
  const Format format = kFormat<T>;
  const int exponent = std::max(std::ilogb(value), format.min_exponent);
  const double unit = std::ldexp(1.0, exponent - format.digits + 1);
  const double rounded = std::nearbyint(double{value} / unit) * unit;
  if (std::fabs(rounded) > format.largest) return std::copysign(HUGE_VALF, value);
  return static_cast<float>(rounded);
}

// What the bits of a T stand for.
template <typename T>
float ValueOf(T element) {
  const Format format = kFormat<T>;
  const int exponent_bits = 16 - format.digits;
  const int stored = (element.bits & 0x7FFF) >> (format.digits - 1);
  const int fraction = element.bits & ((1 << (format.digits - 1)) - 1);
  const float sign = (element.bits & 0x8000) != 0 ? -1.0F : 1.0F;
  if (stored == (1 << exponent_bits) - 1) {
    return fraction == 0 ? sign * HUGE_VALF : std::numeric_limits<float>::quiet_NaN();
  }
  const int implicit = stored == 0 ? 0 : 1 << (format.digits - 1);
  const int exponent = (stored == 0 ? 1 : stored) - 1 + format.min_exponent - format.digits + 1;
  return sign * static_cast<float>(std::ldexp(double(fraction + implicit), exponent));
}

// The same number: 0 is not -0, every NaN is the same.
bool Same(float a, float b) {
  if (std::isnan(a) || std::isnan(b)) return std::isnan(a) && std::isnan(b);
  return a == b && std::signbit(a) == std::signbit(b);
}

bool Same(const Floats& a, const Floats& b) {
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); ++i) {
    if (!Same(a[i], b[i])) return false;
  }
  return true;
}

template <typename T>
bool SameBytes(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() &&
         (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

template <typename T>
Floats Wide(const std::vector<T>& values) {
  Floats wide;
  for (const T value : values) wide.push_back(ValueOf(value));
  return wide;
}

template <typename T>
Floats RoundAll(Floats values) {
  for (float& value : values) value = RoundedTo<T>(value);
  return values;
}

template <typename T>
std::vector<T> Narrow(CpuContext& context, const Floats& values) {
  std::vector<T> narrow(values.size(), T{0x7777});
  rulebook::cpu::Narrow(context, values.data(), static_cast<int64_t>(values.size()), narrow.data());
  return narrow;
}

template <typename T>
std::vector<T> AllElements() {
  std::vector<T> all;
  for (uint32_t bits = 0; bits < 0x10000; ++bits) all.push_back(T{static_cast<uint16_t>(bits)});
  return all;
}

// Every finite element, what lies halfway to the next one, and the float32 beside each on either
// side; then what is out of the ordinary.
template <typename T>
Floats Hard() {
  Floats hard;
  const auto add = [&](float value) {
    for (const float x :
         {value, std::nextafter(value, -HUGE_VALF), std::nextafter(value, HUGE_VALF)}) {
      hard.push_back(x);
      hard.push_back(-x);
    }
  };
  for (const T element : AllElements<T>()) {
    const float value = ValueOf(element);
    if (!(value >= 0.0F) || std::isinf(value)) continue;
    add(value);
    const float next = ValueOf(T{static_cast<uint16_t>(element.bits + 1)});
    const double above =
        std::isinf(next)
            ? kFormat<T>.largest + std::ldexp(1.0, std::ilogb(value) + 1 - kFormat<T>.digits)
            : double{next};
    add(static_cast<float>((double{value} + above) / 2));
  }
  for (const float value : {HUGE_VALF, FLT_MAX, FLT_MIN, FLT_TRUE_MIN, 65536.0F, 1e30F}) add(value);
  hard.push_back(std::numeric_limits<float>::quiet_NaN());
  hard.push_back(-std::numeric_limits<float>::quiet_NaN());
  return hard;
}

// Some rows of features, with what is out of the ordinary among them.
template <typename T>
std::vector<T> Elements(CpuContext& context, int64_t count, uint64_t seed) {
  Floats values = Random(seed).Floats(count);
  const float odd[] = {HUGE_VALF, -HUGE_VALF, NAN, 6e-8F, -3e-6F, 0.0F, -0.0F, 60000.0F, -65504.0F};
  for (size_t i = 0; i < std::size(odd); ++i) {
    const size_t place = i * 37 + 11;
    if (place < values.size()) values[place] = odd[i];
  }
  return Narrow<T>(context, values);
}

Coords SomeSites(int64_t rows, int64_t frames) {
  Coords coords{3, {}};
  for (int64_t i = 0; i < rows; ++i) {
    const auto frame = static_cast<int32_t>(i * frames / rows);
    const auto cell = static_cast<int32_t>(2 * i);
    coords.values.insert(coords.values.end(), {frame, cell / 400, cell / 20 % 20, cell % 20});
  }
  return coords;
}

constexpr int64_t kFrames = 3;
const rulebook::SpatialShape kGrid = Axes({6, 20, 20});

std::vector<int32_t> RandomRows(int64_t count, int64_t rows, uint64_t seed) {
  Random random(seed);
  std::vector<int32_t> result;
  for (int64_t i = 0; i < count; ++i)
    result.push_back(static_cast<int32_t>(random.Below(rows + 1) - 1));
  return result;
}

template <typename T>
std::vector<T> Unset(int64_t count) {
  std::vector<T> values(static_cast<size_t>(count));
  for (T& value : values) std::memset(static_cast<void*>(&value), 0x77, sizeof value);
  return values;
}

// Runs `call(context, features)` for 16-bit features at several thread counts and for the same ones
// widened: the bytes do not depend on threads, and the values are the float32 ones rounded.
template <typename T, typename CallIt>
void ExpectRounded(const std::vector<T>& features, const CallIt& call) {
  const auto one = rulebook::MakeThreadPool(1);
  const std::vector<T> low = call(*one, features);
  for (const int threads : {2, 4}) {
    const auto pool = rulebook::MakeThreadPool(threads);
    CHECK(SameBytes(call(*pool, features), low));
  }
  CHECK(Same(Wide(low), RoundAll<T>(call(*one, Wide(features)))));
}

template <typename Body>
void ForSizes(const Body& body) {
  const auto pool = rulebook::MakeThreadPool(2);
  for (const int64_t rows : kRows) {
    for (const int64_t channels : kChannels) {
      body(Elements<Float16>(*pool, rows * channels, 3), rows, channels);
      body(Elements<BFloat16>(*pool, rows * channels, 3), rows, channels);
    }
  }
}

template <typename Vector>
using ElementOf = typename std::decay_t<Vector>::value_type;

template <typename T>
std::vector<T> Convolve(CpuContext& context, const std::vector<T>& features, int64_t inputs,
                        const std::vector<int32_t>& neighbors, int64_t outputs,
                        const rulebook::WeightShape& shape, const std::vector<T>& weight,
                        const std::vector<T>& bias, const std::vector<T>& residual,
                        rulebook::ActivationKind activation) {
  rulebook::ConvInputs<T> in;
  in.features = features.data();
  in.inputs = inputs;
  in.neighbors = neighbors.data();
  in.outputs = outputs;
  in.bias = bias.empty() ? nullptr : bias.data();
  in.residual = residual.empty() ? nullptr : residual.data();
  in.activation.kind = activation;
  auto out = Unset<T>(outputs * shape.out_channels);
  const auto packed = rulebook::PackWeight<kCpu, T>(context, weight.data(), shape);
  rulebook::SparseConv<kCpu, T>(context, in, *packed, out.data());
  return out;
}

}  // namespace

template <typename T>
void EveryElementWidens() {
  const auto pool = rulebook::MakeThreadPool(3);
  const auto all = AllElements<T>();
  Floats wide(all.size());
  rulebook::cpu::Widen(*pool, all.data(), static_cast<int64_t>(all.size()), wide.data());
  CHECK(Same(wide, Wide(all)));
}

TEST(EveryHalfWidens) { EveryElementWidens<Float16>(); }
TEST(EveryBfloat16Widens) { EveryElementWidens<BFloat16>(); }

template <typename T>
void HardValuesRound() {
  const auto pool = rulebook::MakeThreadPool(3);
  const Floats hard = Hard<T>();
  const Floats narrowed = Wide(Narrow<T>(*pool, hard));
  for (size_t i = 0; i < hard.size(); ++i) {
    if (Same(narrowed[i], RoundedTo<T>(hard[i]))) continue;
    check::Fail(__FILE__, __LINE__, hard[i], " became ", narrowed[i], ", expected ",
                RoundedTo<T>(hard[i]));
  }
}

TEST(ValuesBetweenHalvesRoundToTheNearest) { HardValuesRound<Float16>(); }
TEST(ValuesBetweenBfloat16sRoundToTheNearest) { HardValuesRound<BFloat16>(); }

// What this machine chose against the generic conversions, at every tail.
template <typename T>
void EveryInstructionSetGivesTheSameBits(void (*widen)(const T*, int64_t, float*),
                                         void (*narrow)(const float*, int64_t, T*)) {
  const auto pool = rulebook::MakeThreadPool(1);
  const auto all = AllElements<T>();
  const Floats hard = Hard<T>();
  for (const int64_t offset : {0, 1, 5}) {
    for (const int64_t count : {0, 1, 7, 8, 15, 16, 19, 31, 32, 989, 60000}) {
      Floats wide = Unset<float>(count), expected_wide = Unset<float>(count);
      auto low = Unset<T>(count), expected = Unset<T>(count);
      widen(all.data() + offset, count, expected_wide.data());
      narrow(hard.data() + offset, count, expected.data());
      rulebook::cpu::Widen(*pool, all.data() + offset, count, wide.data());
      rulebook::cpu::Narrow(*pool, hard.data() + offset, count, low.data());
      CHECK(SameBytes(wide, expected_wide));
      CHECK(SameBytes(low, expected));
    }
  }
}

TEST(EveryInstructionSetConvertsToTheSameBits) {
  const auto& generic = rulebook::cpu::GenericConversionKernels();
  EveryInstructionSetGivesTheSameBits<Float16>(generic.widen_half, generic.narrow_half);
  EveryInstructionSetGivesTheSameBits<BFloat16>(generic.widen_bfloat, generic.narrow_bfloat);
}

TEST(ConvolutionRoundsOnce) {
  ForSizes([](const auto& features, int64_t rows, int64_t channels) {
    using T = ElementOf<decltype(features)>;
    const auto pool = rulebook::MakeThreadPool(1);
    const auto neighbors = RandomRows(5 * (rows + 2), rows, 8);
    for (const int64_t groups : {int64_t{1}, channels}) {
      const rulebook::WeightShape shape{5, channels, channels, groups};
      const auto weight = Narrow<T>(*pool, Random(9).Floats(5 * channels / groups * channels));
      const auto bias = Narrow<T>(*pool, Random(10).Floats(channels));
      const auto residual = Elements<T>(*pool, (rows + 2) * channels, 11);
      for (const auto activation :
           {rulebook::ActivationKind::kNone, rulebook::ActivationKind::kRelu,
            rulebook::ActivationKind::kGelu}) {
        const bool bare = activation == rulebook::ActivationKind::kRelu;
        ExpectRounded(features, [&](CpuContext& context, const auto& x) {
          using E = ElementOf<decltype(x)>;
          const auto as = [](const std::vector<T>& values) {
            if constexpr (std::is_same_v<E, T>)
              return values;
            else
              return Wide(values);
          };
          return Convolve<E>(context, x, rows, neighbors, rows + 2, shape, as(weight),
                             bare ? std::vector<E>{} : as(bias),
                             bare ? std::vector<E>{} : as(residual), activation);
        });
      }
    }
  });
}

TEST(PoolingRoundsOnce) {
  ForSizes([](const auto& features, int64_t rows, int64_t channels) {
    const auto neighbors = RandomRows(8 * 101, rows, 4);
    const Coords coords = SomeSites(rows, kFrames);
    for (const auto mode :
         {rulebook::PoolMode::kMax, rulebook::PoolMode::kAvg, rulebook::PoolMode::kSum}) {
      ExpectRounded(features, [&](CpuContext& context, const auto& x) {
        using E = ElementOf<decltype(x)>;
        auto out = Unset<E>(101 * channels);
        rulebook::SparsePool<kCpu, E>(context, x.data(), rows, channels, neighbors.data(), 8, 101,
                                      mode, out.data());
        return out;
      });
      ExpectRounded(features, [&](CpuContext& context, const auto& x) {
        using E = ElementOf<decltype(x)>;
        auto out = Unset<E>((kFrames + 1) * channels);
        rulebook::SparseGlobalPool<kCpu, E>(context, x.data(), channels, coords.view(), kFrames + 1,
                                            mode, out.data());
        return out;
      });
    }
  });
}

TEST(RowsMoveAndReduce) {
  ForSizes([](const auto& features, int64_t rows, int64_t channels) {
    using T = ElementOf<decltype(features)>;
    const auto gathered = RandomRows(150, rows, 5);
    const auto pool = rulebook::MakeThreadPool(1);
    const T fill = Narrow<T>(*pool, {1.0F / 3.0F})[0];
    ExpectRounded(features, [&](CpuContext& context, const auto& x) {
      using E = ElementOf<decltype(x)>;
      auto out = Unset<E>(150 * channels);
      E value;
      if constexpr (std::is_same_v<E, T>)
        value = fill;
      else
        value = ValueOf(fill);
      rulebook::GatherRows<kCpu, E>(context, x.data(), rows, channels, gathered.data(), 150, value,
                                    out.data());
      return out;
    });
    const auto targets = RandomRows(rows, 40, 6);
    for (const auto mode : {rulebook::ReduceMode::kSum, rulebook::ReduceMode::kMean,
                            rulebook::ReduceMode::kMax, rulebook::ReduceMode::kFirst}) {
      ExpectRounded(features, [&](CpuContext& context, const auto& x) {
        using E = ElementOf<decltype(x)>;
        auto out = Unset<E>(40 * channels);
        rulebook::ReduceRows<kCpu, E>(context, x.data(), rows, channels, targets.data(), 40, mode,
                                      out.data());
        return out;
      });
    }
  });
}

TEST(DenseThereAndBackKeepsBits) {
  ForSizes([](const auto& features, int64_t rows, int64_t channels) {
    const Coords coords = SomeSites(rows, kFrames);
    ExpectRounded(features, [&](CpuContext& context, const auto& x) {
      using E = ElementOf<decltype(x)>;
      auto out = Unset<E>(kFrames * channels * 6 * 20 * 20);
      rulebook::SparseToDense<kCpu, E>(context, coords.view(), x.data(), channels, kFrames, kGrid,
                                       out.data());
      return out;
    });
    const auto pool = rulebook::MakeThreadPool(2);
    using T = ElementOf<decltype(features)>;
    auto dense = Unset<T>(kFrames * channels * 6 * 20 * 20);
    rulebook::SparseToDense<kCpu, T>(*pool, coords.view(), features.data(), channels, kFrames,
                                     kGrid, dense.data());
    std::vector<int32_t> sites;
    ExpectRounded(dense, [&](CpuContext& context, const auto& x) {
      using E = ElementOf<decltype(x)>;
      std::vector<int32_t> found;
      std::vector<E> out;
      rulebook::DenseToSparse<kCpu, E>(context, x.data(), kFrames, channels, kGrid, 0.5F,
                                       [&](int64_t count) {
                                         found.resize(static_cast<size_t>(count * 4));
                                         out = Unset<E>(count * channels);
                                         return rulebook::DenseSites<E>{found.data(), out.data()};
                                       });
      if (sites.empty()) sites = found;
      CHECK(found == sites);
      return out;
    });
  });
}

TEST(UnionAddsInFloat32) {
  ForSizes([](const auto& features, int64_t rows, int64_t channels) {
    using T = ElementOf<decltype(features)>;
    const Coords a = SomeSites(rows, kFrames);
    const Coords b = support::RandomSites(kFrames, kGrid, 4, 12);
    const auto pool = rulebook::MakeThreadPool(1);
    const auto others = Elements<T>(*pool, b.rows() * channels, 13);
    for (const auto mode : {rulebook::UnionMode::kSum, rulebook::UnionMode::kConcat}) {
      ExpectRounded(features, [&](CpuContext& context, const auto& x) {
        using E = ElementOf<decltype(x)>;
        std::vector<E> other;
        if constexpr (std::is_same_v<E, T>)
          other = others;
        else
          other = Wide(others);
        std::vector<int32_t> sites;
        std::vector<E> out;
        rulebook::SparseUnion<kCpu, E>(
            context, a.view(), x.data(), channels, b.view(), other.data(), channels, mode,
            [&](int64_t count) {
              sites.resize(static_cast<size_t>(count * 4));
              out = Unset<E>(count * channels * (mode == rulebook::UnionMode::kSum ? 1 : 2));
              return rulebook::UnionSites<E>{sites.data(), out.data()};
            });
        return out;
      });
    }
  });
}

TEST(InterpolationRoundsOnce) {
  ForSizes([](const auto& features, int64_t rows, int64_t channels) {
    const Coords coords = SomeSites(rows, kFrames);
    constexpr int64_t kPoints = 500;
    Random random(14);
    Floats points;
    std::vector<int32_t> batch;
    for (int64_t p = 0; p < kPoints; ++p) {
      for (const float size : {20.0F, 20.0F, 6.0F})
        points.push_back((random.Float() + 1) / 2 * size);
      batch.push_back(static_cast<int32_t>(random.Below(kFrames)));
    }
    rulebook::InterpolateOptions options;
    options.grid = {{0, 0, 0, 20, 20, 6}, {1, 1, 1}};
    for (const auto mode :
         {rulebook::InterpolateMode::kNearest, rulebook::InterpolateMode::kTrilinear}) {
      options.mode = mode;
      ExpectRounded(features, [&](CpuContext& context, const auto& x) {
        using E = ElementOf<decltype(x)>;
        auto out = Unset<E>(kPoints * channels);
        rulebook::SparseInterpolate<kCpu, E>(context, coords.view(), x.data(), channels,
                                             points.data(), kPoints, 3, batch.data(), options,
                                             out.data());
        return out;
      });
    }
  });
}

TEST(ASumTooLargeForHalfIsInfiniteAndOneThatCancelsIsNot) {
  const auto pool = rulebook::MakeThreadPool(1);
  const auto x = Narrow<Float16>(*pool, {60000.0F, 60000.0F, -60000.0F});
  const auto sum = [&](const std::vector<int32_t>& row) {
    std::vector<Float16> out(1);
    rulebook::ReduceRows<kCpu, Float16>(*pool, x.data(), 3, 1, row.data(), 1,
                                        rulebook::ReduceMode::kSum, out.data());
    return ValueOf(out[0]);
  };
  CHECK_EQ(sum({0, 0, -1}), HUGE_VALF);
  CHECK_EQ(sum({0, 0, 0}), ValueOf(x[0]));
}

TEST(ErrorsAreTheFloatOnes) {
  const auto pool = rulebook::MakeThreadPool(2);
  const std::vector<Float16> x(4);
  std::vector<Float16> out(4);
  const int32_t row[] = {7, 0};
  CHECK_THROWS(rulebook::Error, "row[0] is 7",
               rulebook::ReduceRows<kCpu, Float16>(*pool, x.data(), 2, 2, row, 2,
                                                   rulebook::ReduceMode::kSum, out.data()));
  CHECK_THROWS(rulebook::Error, "groups",
               rulebook::PackWeight<kCpu, Float16>(*pool, x.data(), {1, 3, 2, 2}));
}
