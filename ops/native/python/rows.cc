// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#include "rulebook/rows.h"

#include <nanobind/stl/string.h>

#include <type_traits>

#include "arrays.h"
#include "bindings.h"
#include "threads.h"

namespace voxgate {
namespace {

using rulebook::Device;
using rulebook::ReduceMode;

constexpr std::array<std::pair<std::string_view, ReduceMode>, 4> kModes{{
    {"sum", ReduceMode::kSum},
    {"mean", ReduceMode::kMean},
    {"max", ReduceMode::kMax},
    {"first", ReduceMode::kFirst},
}};

// The fill value in the rows' own type: Python passes one float for all of them.
template <typename T>
T ToFill(double fill) {
  if constexpr (std::is_integral_v<T>) {
    // 2^53: beyond it a double no longer names one integer.
    const double limit = std::is_same_v<T, int32_t> ? 2147483648.0 : 9007199254740992.0;
    if (!(fill >= -limit && fill < limit) || fill != std::floor(fill)) {
      rulebook::ThrowInvalid("fill ", fill, " is no value of the rows' integer type");
    }
  }
  return static_cast<T>(fill);
}

template <typename T>
nb::ndarray<nb::numpy, T> GatherRows(const Array<T>& x, const Array<int32_t>& row, double fill,
                                     int threads) {
  Expect(x, "x", {kAny, kAny});
  Expect(row, "row", {kAny});
  const T fill_value = ToFill<T>(fill);
  Output<T> out({Size(row, 0), Size(x, 1)});
  RunReleased(threads, [&](rulebook::CpuContext& context) {
    rulebook::GatherRows<Device::kCpu, T>(context, x.data(), Size(x, 0), Size(x, 1), row.data(),
                                          Size(row, 0), fill_value, out.data());
  });
  return out.Release();
}

nb::ndarray<nb::numpy, float> ReduceRows(const Array<float>& x, const Array<int32_t>& row,
                                         int64_t num_outputs, const std::string& mode,
                                         int threads) {
  Expect(x, "x", {kAny, kAny});
  Expect(row, "row", {Size(x, 0)});
  if (num_outputs < 0) rulebook::ThrowInvalid("num_outputs ", num_outputs, " must not be negative");
  rulebook::CheckedProduct(1, num_outputs, rulebook::kMaxSites, "num_outputs");
  const ReduceMode reduce_mode = Choose(mode, "mode", kModes);
  Output<float> out({num_outputs, Size(x, 1)});
  RunReleased(threads, [&](rulebook::CpuContext& context) {
    rulebook::ReduceRows<Device::kCpu, float>(context, x.data(), Size(x, 0), Size(x, 1), row.data(),
                                              num_outputs, reduce_mode, out.data());
  });
  return out.Release();
}

template <typename T>
void BindGatherRows(nb::module_& module) {
  module.def("gather_rows", &GatherRows<T>, nb::arg("x").noconvert(), nb::arg("row").noconvert(),
             nb::arg("fill") = 0.0, nb::kw_only(), nb::arg("threads") = 0,
             "x[row], rows of `fill` where row is -1: [P, C].");
}

}  // namespace

void BindRows(nb::module_& module) {
  BindGatherRows<float>(module);
  BindGatherRows<int32_t>(module);
  BindGatherRows<int64_t>(module);
  module.def("reduce_rows", &ReduceRows, nb::arg("x").noconvert(), nb::arg("row").noconvert(),
             nb::arg("num_outputs"), nb::arg("mode"), nb::kw_only(), nb::arg("threads") = 0,
             "Reduces the rows of x that share a row number: [num_outputs, C].");
}

}  // namespace voxgate
