// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// SparseConv. A constant weight is packed once, at session creation.
#include <limits>
#include <memory>

#include "families.h"
#include "rulebook/convolution.h"

namespace voxgate {
namespace {

using rulebook::ActivationKind;
using rulebook::Device;

constexpr Names<ActivationKind, 6> kActivations = {{{"none", ActivationKind::kNone},
                                                    {"relu", ActivationKind::kRelu},
                                                    {"leaky_relu", ActivationKind::kLeakyRelu},
                                                    {"sigmoid", ActivationKind::kSigmoid},
                                                    {"silu", ActivationKind::kSilu},
                                                    {"gelu", ActivationKind::kGelu}}};

template <Device D, typename T>
class SparseConvKernel {
 public:
  static constexpr Device kDevice = D;
  static constexpr const char* kName = "SparseConv";
  static constexpr Port kInputs[] = {
      MakePort<T>("features", "[N, Ci]"), MakePort<int32_t>("neighbors", "[K, M]"),
      MakePort<T>("weight", "[K, Ci / groups, Co]"), MakePort<T>("bias", "[Co]").Optional(),
      MakePort<T>("residual", "[M, Co]").Optional()};
  static constexpr Port kOutputs[] = {MakePort<T>("features", "[M, Co]")};

  explicit SparseConvKernel(const Attributes& attributes)
      : groups_(attributes.Int("groups", 1, 1, std::numeric_limits<int64_t>::max())) {
    activation_.kind = attributes.Choice("activation", kActivations, {ActivationKind::kNone});
    activation_.alpha = attributes.Float("alpha", 0.01F);
    int is_constant = 0;
    const OrtValue* value = nullptr;
    Ort::ThrowOnError(Ort::GetApi().KernelInfoGetConstantInput_tensor(attributes.info(), kWeight,
                                                                      &is_constant, &value));
    if (is_constant == 0) return;
    setup_ = std::make_unique<SetupContext<D>>(attributes.info());
    packed_ = Pack(*setup_, ReadTensor<T>(value, kInputs[kWeight]));
    setup_->Finish();
  }

  void Compute(Call<D>& call) const {
    const Tensor<T> weight = call.template Input<T>(kWeight);
    const Tensor<T> features = call.template Input<T>(kFeatures);
    const Tensor<int32_t> neighbors = call.template Input<int32_t>(kNeighbors);
    const Tensor<T> bias = call.template Input<T>(kBias);
    const Tensor<T> residual = call.template Input<T>(kResidual);
    ExpectSize(features, 1, "channels", InChannels(weight), weight);
    ExpectSize(neighbors, 0, "kernel offsets", weight.shape[0], weight);
    if (bias.present) ExpectSize(bias, 0, "channels", weight.shape[2], weight);
    if (residual.present) {
      ExpectSize(residual, 0, "rows", neighbors.shape[1], neighbors);
      ExpectSize(residual, 1, "channels", weight.shape[2], weight);
    }

    rulebook::ConvInputs<T> in;
    in.features = features.data;
    in.inputs = features.shape[0];
    in.neighbors = neighbors.data;
    in.outputs = neighbors.shape[1];
    in.bias = bias.data;
    in.residual = residual.data;
    in.activation = activation_;
    const PackedPtr packed = packed_ ? nullptr : Pack(call.context(), weight);
    T* out = call.template Output<T>(0, {in.outputs, weight.shape[2]});
    rulebook::SparseConv<D, T>(call.context(), in, packed_ ? *packed_ : *packed, out);
  }

  static void InferShapes(ShapeInference& shapes) {
    shapes.Set(0, {shapes.InputDim(kNeighbors, 1), shapes.InputDim(kWeight, 2)});
  }

 private:
  enum Inputs : size_t { kFeatures, kNeighbors, kWeight, kBias, kResidual };
  using PackedPtr = rulebook::PackedWeightPtr<D, T>;

  int64_t InChannels(const Tensor<T>& weight) const {
    return rulebook::CheckedProduct(weight.shape[1], groups_, rulebook::kMaxDenseElements,
                                    "input channels (weight's axis 1 times groups)");
  }

  PackedPtr Pack(rulebook::Context<D>& context, const Tensor<T>& weight) const {
    rulebook::WeightShape shape;
    shape.kernel_volume = weight.shape[0];
    shape.in_channels = InChannels(weight);
    shape.out_channels = weight.shape[2];
    shape.groups = groups_;
    return rulebook::PackWeight<D, T>(context, weight.data, shape);
  }

  int64_t groups_;
  rulebook::Activation activation_;
  std::unique_ptr<SetupContext<D>> setup_;  // of packed_
  PackedPtr packed_;                        // null when the weight is no constant
};

}  // namespace

template <Device D>
void AddConvolutionOperators(OperatorList& list) {
  AddFeatureOperators<SparseConvKernel, D>(list);
}

VOXGATE_FAMILY(AddConvolutionOperators);

}  // namespace voxgate
