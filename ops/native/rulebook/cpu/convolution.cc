// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#include "rulebook/convolution.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "packed_weight.h"
#include "parallel.h"
#include "rulebook/error.h"
#include "rulebook/shape.h"
#include "split_convolution.h"

namespace rulebook {
namespace {

using cpu::TilePairs;
using CpuWeight = PackedWeight<Device::kCpu, float>;

// Rows of one tile: enough that one offset's weights, read once a tile, cost little beside its
// arithmetic; few enough that sums stay in the second-level cache and small inputs still give every
// thread a tile.
int64_t TileRows(int64_t outputs) {
  constexpr int64_t kMost = 512, kLeast = 64, kTiles = 16;
  return std::clamp((outputs / kTiles + 63) / 64 * 64, kLeast, kMost);
}

// Memory one tile works in, kept from tile to tile by the thread that runs them.
struct TileScratch {
  cpu::AlignedFloats floats;
  int64_t size = 0;
  // Two lists of pairs: one offset's are found while the one before it is being added.
  std::vector<int32_t> in_row[2], out_row[2];

  float* Reserve(int64_t count) {
    if (size < count) {
      floats = cpu::AllocateFloats(count);
      size = count;
    }
    return floats.get();
  }

  TilePairs Pairs(int list, int64_t capacity) {
    const auto count = static_cast<size_t>(capacity);
    if (in_row[list].size() < count) {
      in_row[list].resize(count);
      out_row[list].resize(count);
    }
    return {in_row[list].data(), out_row[list].data(), 0};
  }
};

// Readies the thread for `accumulate` of a split convolution, for as long as it lives.
class TileUnit {
 public:
  explicit TileUnit(const cpu::SplitKernels& kernels) : kernels_(kernels) { kernels_.begin(); }
  ~TileUnit() { kernels_.end(); }
  TileUnit(const TileUnit&) = delete;
  TileUnit& operator=(const TileUnit&) = delete;

 private:
  const cpu::SplitKernels& kernels_;
};

[[noreturn]] void ThrowBadNeighbor(const ConvInputs<float>& in, int64_t k, int64_t begin,
                                   int64_t end) {
  const int32_t* row = in.neighbors + k * in.outputs;
  for (int64_t o = begin; o < end; ++o) {
    if (row[o] < -1 || row[o] >= in.inputs) {
      ThrowInvalid("neighbors[", k, ", ", o, "] is ", row[o], ", must be -1 or in [0, ", in.inputs,
                   ")");
    }
  }
  ThrowInvalid("neighbors[", k, "] changed while it was read");
}

class Tile {
 public:
  Tile(const ConvInputs<float>& in, const CpuWeight& weight, int64_t begin, int64_t end, float* out)
      : in_(in),
        weight_(weight),
        begin_(begin),
        rows_(end - begin),
        stride_(weight.sum_stride()),
        out_(out + begin * weight.shape().out_channels),
        sums_(in_place() ? out_ : Scratch().Reserve(rows_ * stride_)) {}

  void Run() {
    Start();
    TilePairs pairs = Scratch().Pairs(0, rows_ + weight_.kernels().pair_slack);
    for (int64_t k = 0; k < weight_.shape().kernel_volume; ++k) {
      FindPairs(k, pairs);
      if (pairs.count > 0) AddOffset(k, pairs);
    }
    Finish();
  }

  struct Rows {
    int64_t begin, end;
  };

  // The same by a split convolution. Returns the rows that are still to be done without.
  std::vector<Rows> RunSplit() {
    Start();
    AddSplit();
    std::vector<Rows> unsound = UnsoundRows();
    Finish();
    return unsound;
  }

 private:
  static TileScratch& Scratch() {
    static thread_local TileScratch scratch;
    return scratch;
  }

  int64_t out_channels() const { return weight_.shape().out_channels; }

  // Without padding columns the sums are gathered in the output itself.
  bool in_place() const { return stride_ == out_channels(); }

  // Calls visit(first channel, first column of the sums, number of channels) for every run of
  // channels that is contiguous in the sums.
  template <typename Visit>
  void ForEachRun(Visit visit) const {
    if (in_place()) return visit(0, 0, out_channels());
    const int64_t channels = weight_.group_out_channels();
    for (int64_t g = 0; g < weight_.shape().groups; ++g) {
      visit(g * channels, g * weight_.padded_group(), channels);
    }
  }

  // sums = bias + residual; padding columns start at 0, so that nothing reads unset memory.
  void Start() {
    if (in_.bias != nullptr && in_place()) {
      weight_.kernels().fill_rows(in_.bias, rows_, stride_, sums_);
    } else {
      std::fill_n(sums_, rows_ * stride_, 0.0F);
    }
    if (in_.bias != nullptr && !in_place()) AddToSums(in_.bias, 0);
    if (in_.residual != nullptr) AddToSums(in_.residual + begin_ * out_channels(), out_channels());
  }

  // sums += values, whose rows are `value_stride` apart (0: one row for all).
  void AddToSums(const float* values, int64_t value_stride) {
    ForEachRun([&](int64_t channel, int64_t column, int64_t channels) {
      for (int64_t row = 0; row < rows_; ++row) {
        float* sum = sums_ + row * stride_ + column;
        const float* value = values + row * value_stride + channel;
        for (int64_t c = 0; c < channels; ++c) sum[c] += value[c];
      }
    });
  }

  void FindPairs(int64_t k, TilePairs& pairs) const {
    const int32_t* neighbors = in_.neighbors + k * in_.outputs + begin_;
    const int32_t* next =
        k + 1 < weight_.shape().kernel_volume ? neighbors + in_.outputs : neighbors;
    const auto inputs = static_cast<int32_t>(in_.inputs);
    if (!weight_.kernels().find_pairs(neighbors, rows_, inputs, next, pairs)) {
      ThrowBadNeighbor(in_, k, begin_, begin_ + rows_);
    }
  }

  // Finds the next offset that has pairs, from `k` on, and moves k behind it. Null: there is none.
  const cpu::SplitOffset* NextOffset(int64_t& k, cpu::SplitOffset& offset) const {
    while (k < weight_.shape().kernel_volume) {
      FindPairs(k, offset.pairs);
      offset.weight = weight_.split_weight(k++);
      if (offset.pairs.count > 0) return &offset;
    }
    return nullptr;
  }

  void AddSplit() {
    const cpu::SplitKernels& kernels = *weight_.split();
    const int64_t capacity = rows_ + std::max(weight_.kernels().pair_slack, cpu::kSplitPairSlack);
    const int64_t inputs = weight_.shape().in_channels, outputs = out_channels();
    // This tile's sums are in the output itself, and the next tile's follow them.
    const float* next_tile = sums_ + rows_ * outputs;
    const int64_t next_rows = std::min(rows_, in_.outputs - begin_ - rows_);
    cpu::SplitRun run = {
        in_.features,
        inputs,
        outputs,
        sums_,
        reinterpret_cast<char*>(Scratch().Reserve(cpu::SplitWorkspaceBytes(inputs) / 4)),
        reinterpret_cast<const char*>(next_tile),
        reinterpret_cast<const char*>(next_tile + next_rows * outputs)};
    cpu::SplitOffset offsets[2] = {{Scratch().Pairs(0, capacity)}, {Scratch().Pairs(1, capacity)}};
    const TileUnit unit(kernels);
    int64_t k = 0;
    int free = 0;
    const cpu::SplitOffset* now = NextOffset(k, offsets[free]);
    while (now != nullptr) {
      free ^= 1;
      const cpu::SplitOffset* next = NextOffset(k, offsets[free]);
      kernels.accumulate(run, *now, next);
      now = next;
    }
  }

  std::vector<Rows> UnsoundRows() const {
    const auto sound = [this](int64_t row, int64_t rows) {
      return weight_.split()->all_sound(sums_ + row * stride_, rows * stride_);
    };
    std::vector<Rows> unsound;
    if (sound(0, rows_)) return unsound;
    for (int64_t row = 0; row < rows_; ++row) {
      if (sound(row, 1)) continue;
      const int64_t o = begin_ + row;
      if (unsound.empty() || unsound.back().end != o) unsound.push_back({o, o});
      ++unsound.back().end;
    }
    return unsound;
  }

  void AddOffset(int64_t k, const TilePairs& pairs) {
    const auto& kernels = weight_.kernels();
    const int64_t stride = weight_.shape().in_channels;
    if (weight_.depthwise()) {
      kernels.accumulate_depthwise(in_.features, stride, pairs, weight_.channel_weights(k), sums_,
                                   stride_);
      return;
    }
    for (int64_t g = 0; g < weight_.shape().groups; ++g) {
      for (int64_t p = 0; p < weight_.panels(); ++p) {
        kernels.accumulate(in_.features + g * weight_.group_in_channels(), stride,
                           weight_.group_in_channels(), pairs, weight_.panel(k, g, p),
                           sums_ + g * weight_.padded_group() + weight_.panel_begin(p), stride_);
      }
    }
  }

  template <typename Function>
  void Write(Function function) const {
    if (in_place()) {
      const int64_t count = rows_ * stride_;
      for (int64_t j = 0; j < count; ++j) out_[j] = function(out_[j]);
      return;
    }
    ForEachRun([&](int64_t channel, int64_t column, int64_t channels) {
      for (int64_t row = 0; row < rows_; ++row) {
        const float* sum = sums_ + row * stride_ + column;
        float* y = out_ + row * out_channels() + channel;
        for (int64_t c = 0; c < channels; ++c) y[c] = function(sum[c]);
      }
    });
  }

  void Finish() {
    const auto same = [](float x) { return x; };
    const auto sigmoid = [](float x) { return 1.0F / (1.0F + std::exp(-x)); };
    const float alpha = in_.activation.alpha;
    switch (in_.activation.kind) {
      case ActivationKind::kNone:
        return in_place() ? void() : Write(same);
      case ActivationKind::kRelu:
        weight_.kernels().relu(sums_, rows_ * stride_);
        return in_place() ? void() : Write(same);
      case ActivationKind::kLeakyRelu:
        return Write([alpha](float x) { return x < 0.0F ? alpha * x : x; });
      case ActivationKind::kSigmoid:
        return Write(sigmoid);
      case ActivationKind::kSilu:
        return Write([sigmoid](float x) { return x * sigmoid(x); });
      case ActivationKind::kGelu:
        return Write([](float x) { return 0.5F * x * (1.0F + std::erf(x * 0.70710678F)); });
    }
  }

  const ConvInputs<float>& in_;
  const CpuWeight& weight_;
  const int64_t begin_, rows_, stride_;
  float* const out_;
  float* const sums_;
};

}  // namespace

template <>
void SparseConv<Device::kCpu, float>(CpuContext& context, const ConvInputs<float>& in,
                                     const CpuWeight& weight, float* out) {
  // Rows are int32 in `neighbors`; no legal rulebook comes near.
  if (in.inputs > kMaxSites) {
    ThrowTooLarge("features: ", in.inputs, " rows are over the limit ", kMaxSites);
  }
  if (in.outputs > kMaxSites) {
    ThrowTooLarge("neighbors: ", in.outputs, " outputs are over the limit ", kMaxSites);
  }
  cpu::ForBlocks(context, in.outputs, TileRows(in.outputs),
                 [&](int64_t, int64_t begin, int64_t end) {
                   Tile tile(in, weight, begin, end, out);
                   if (weight.split() == nullptr) return tile.Run();
                   for (const auto [first, behind] : tile.RunSplit()) {
                     Tile(in, weight, first, behind, out).Run();
                   }
                 });
}

}  // namespace rulebook
