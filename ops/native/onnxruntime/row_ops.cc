// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// FindSites, GatherRows and ReduceRows.
#include <cmath>
#include <limits>
#include <type_traits>

#include "families.h"
#include "rulebook/coords.h"
#include "rulebook/rows.h"

namespace voxgate {
namespace {

using rulebook::Device;
using rulebook::ReduceMode;

template <Device D>
class FindSitesKernel {
 public:
  static constexpr Device kDevice = D;
  static constexpr const char* kName = "FindSites";
  static constexpr Port kInputs[] = {MakePort<int32_t>("coords", "[N, 1 + D]"),
                                     MakePort<int32_t>("query", "[P, 1 + D]")};
  static constexpr Port kOutputs[] = {MakePort<int32_t>("row", "[P]")};

  explicit FindSitesKernel(const Attributes&) {}

  void Compute(Call<D>& call) const {
    const Tensor<int32_t> coords = call.template Input<int32_t>(0);
    const Tensor<int32_t> query = call.template Input<int32_t>(1);
    ExpectSize(query, 1, "columns", coords.shape[1], coords);
    const rulebook::CoordsView sites = AsCoords(coords);
    auto* row = call.template Output<int32_t>(0, {query.shape[0]});
    rulebook::FindSites<D>(call.context(), sites, AsCoords(query), row);
  }

  static void InferShapes(ShapeInference& shapes) { shapes.Set(0, {shapes.InputDim(1, 0)}); }
};

// The float attribute `fill` as a T: rounded to a float of 16 bits, and an integer must hold it
// exactly.
template <typename T>
T ReadFill(const Attributes& attributes) {
  const float fill = attributes.Float("fill", 0.0F);
  if constexpr (std::is_same_v<T, float>) {
    return fill;
  } else if constexpr (std::is_same_v<T, rulebook::Float16>) {
    return {Ort::Float16_t(fill).val};
  } else if constexpr (std::is_same_v<T, rulebook::BFloat16>) {
    return {Ort::BFloat16_t(fill).val};
  } else {
    // Bounds that float holds exactly: -2^(bits-1), and the first value that is too large.
    constexpr int kDigits = std::numeric_limits<T>::digits;
    const float bound = std::ldexp(1.0F, kDigits);
    if (std::trunc(fill) != fill || fill < -bound || fill >= bound) {
      rulebook::ThrowInvalid("attribute fill is ", fill, ", expected an int", kDigits + 1,
                             " for x of that type");
    }
    return static_cast<T>(fill);
  }
}

template <Device D, typename T>
class GatherRowsKernel {
 public:
  static constexpr Device kDevice = D;
  static constexpr const char* kName = "GatherRows";
  static constexpr Port kInputs[] = {MakePort<T>("x", "[V, C]"), MakePort<int32_t>("row", "[P]")};
  static constexpr Port kOutputs[] = {MakePort<T>("y", "[P, C]")};

  explicit GatherRowsKernel(const Attributes& attributes) : fill_(ReadFill<T>(attributes)) {}

  void Compute(Call<D>& call) const {
    const Tensor<T> x = call.template Input<T>(0);
    const Tensor<int32_t> row = call.template Input<int32_t>(1);
    T* out = call.template Output<T>(0, {row.shape[0], x.shape[1]});
    rulebook::GatherRows<D, T>(call.context(), x.data, x.shape[0], x.shape[1], row.data,
                               row.shape[0], fill_, out);
  }

  static void InferShapes(ShapeInference& shapes) {
    shapes.Set(0, {shapes.InputDim(1, 0), shapes.InputDim(0, 1)});
  }

 private:
  T fill_;
};

template <Device D, typename T>
class ReduceRowsKernel {
 public:
  static constexpr Device kDevice = D;
  static constexpr const char* kName = "ReduceRows";
  static constexpr Port kInputs[] = {MakePort<T>("x", "[P, C]"), MakePort<int32_t>("row", "[P]"),
                                     MakePort<int32_t>("coords", "[V, 1 + D]")};
  static constexpr Port kOutputs[] = {MakePort<T>("y", "[V, C]")};

  explicit ReduceRowsKernel(const Attributes& attributes)
      : mode_(attributes.Choice("mode", kModes)) {}

  void Compute(Call<D>& call) const {
    const Tensor<T> x = call.template Input<T>(0);
    const Tensor<int32_t> row = call.template Input<int32_t>(1);
    const int64_t outputs = AsCoords(call.template Input<int32_t>(2)).rows;
    ExpectSize(row, 0, "values", x.shape[0], x);
    T* out = call.template Output<T>(0, {outputs, x.shape[1]});
    rulebook::ReduceRows<D, T>(call.context(), x.data, x.shape[0], x.shape[1], row.data, outputs,
                               mode_, out);
  }

  static void InferShapes(ShapeInference& shapes) {
    shapes.Set(0, {shapes.InputDim(2, 0), shapes.InputDim(0, 1)});
  }

 private:
  static constexpr Names<ReduceMode, 4> kModes = {{{"sum", ReduceMode::kSum},
                                                   {"mean", ReduceMode::kMean},
                                                   {"max", ReduceMode::kMax},
                                                   {"first", ReduceMode::kFirst}}};

  ReduceMode mode_;
};

}  // namespace

template <Device D>
void AddRowOperators(OperatorList& list) {
  AddOperator<FindSitesKernel<D>>(list);
  AddFeatureOperators<GatherRowsKernel, D>(list);
  AddOperators<GatherRowsKernel, D, int32_t, int64_t>(list);
  AddFeatureOperators<ReduceRowsKernel, D>(list);
}

VOXGATE_FAMILY(AddRowOperators);

}  // namespace voxgate
