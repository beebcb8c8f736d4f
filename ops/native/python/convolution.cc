// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#include "rulebook/convolution.h"

#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>

#include <optional>

#include "arrays.h"
#include "bindings.h"
#include "threads.h"

namespace voxgate {
namespace {

using rulebook::ActivationKind;
using rulebook::Device;

constexpr std::array<std::pair<std::string_view, ActivationKind>, 6> kActivations{{
    {"none", ActivationKind::kNone},
    {"relu", ActivationKind::kRelu},
    {"leaky_relu", ActivationKind::kLeakyRelu},
    {"sigmoid", ActivationKind::kSigmoid},
    {"silu", ActivationKind::kSilu},
    {"gelu", ActivationKind::kGelu},
}};

nb::ndarray<nb::numpy, float> SparseConv(
    const Array<float>& features, const Array<int32_t>& neighbors, const Array<float>& weight,
    const std::optional<Array<float>>& bias, const std::optional<Array<float>>& residual,
    int64_t groups, const std::string& activation, float alpha, int threads) {
  Expect(weight, "weight", {kAny, kAny, kAny});
  if (groups < 1) rulebook::ThrowInvalid("groups ", groups, " must be at least 1");
  rulebook::WeightShape shape;
  shape.kernel_volume = Size(weight, 0);
  shape.in_channels = rulebook::CheckedProduct(Size(weight, 1), groups, rulebook::kMaxDenseElements,
                                               "input channels");
  shape.out_channels = Size(weight, 2);
  shape.groups = groups;
  Expect(neighbors, "neighbors", {shape.kernel_volume, kAny});
  const int64_t outputs = Size(neighbors, 1);
  Expect(features, "features", {kAny, shape.in_channels});
  if (bias) Expect(*bias, "bias", {shape.out_channels});
  if (residual) Expect(*residual, "residual", {outputs, shape.out_channels});
  rulebook::ConvInputs<float> in;
  in.features = features.data();
  in.inputs = Size(features, 0);
  in.neighbors = neighbors.data();
  in.outputs = outputs;
  in.bias = bias ? bias->data() : nullptr;
  in.residual = residual ? residual->data() : nullptr;
  in.activation = {Choose(activation, "activation", kActivations), alpha};
  Output<float> out({outputs, shape.out_channels});
  RunReleased(threads, [&](rulebook::CpuContext& context) {
    const auto packed = rulebook::PackWeight<Device::kCpu, float>(context, weight.data(), shape);
    rulebook::SparseConv<Device::kCpu, float>(context, in, *packed, out.data());
  });
  return out.Release();
}

}  // namespace

void BindConvolution(nb::module_& module) {
  module.def("sparse_conv", &SparseConv, nb::arg("features").noconvert(),
             nb::arg("neighbors").noconvert(), nb::arg("weight").noconvert(),
             nb::arg("bias").noconvert().none() = nb::none(),
             nb::arg("residual").noconvert().none() = nb::none(), nb::arg("groups") = 1,
             nb::arg("activation") = "none", nb::arg("alpha") = 0.01F, nb::kw_only(),
             nb::arg("threads") = 0,
             "act(bias + residual + convolution over the rulebook): [M, Co]. weight is "
             "[K, Ci/groups, Co].");
}

}  // namespace voxgate
