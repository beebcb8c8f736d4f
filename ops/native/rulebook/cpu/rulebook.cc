// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#include "rulebook/rulebook.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "axis_relation.h"
#include "parallel.h"
#include "site_trie.h"
#include "trie_descent.h"

namespace rulebook {
namespace {

using cpu::AxisRelation;
using cpu::PrefixRulebook;
using cpu::SiteTrie;
using cpu::TrieLevel;

// Walks down the input and output tries. Holds the rulebook over the prefixes reached so far.
class Descent {
 public:
  Descent(CpuContext& context, const SiteTrie& in, const ConvGeometry& geometry,
          const SpatialShape& out_shape)
      : context_(context), in_(in), geometry_(geometry), out_shape_(out_shape) {}

  // Output batches are the given ones; a batch feeds itself.
  void StartAt(const TrieLevel& out) {
    neighbors_.resize(static_cast<size_t>(out.nodes()));
    const auto& batches = in_[0].coord;
    for (size_t o = 0; o < neighbors_.size(); ++o) {
      const auto found = std::lower_bound(batches.begin(), batches.end(), out.coord[o]);
      const bool present = found != batches.end() && *found == out.coord[o];
      neighbors_[o] = present ? static_cast<int32_t>(found - batches.begin()) : -1;
    }
    volume_ = 1;
    outputs_ = out.nodes();
  }

  int axis() const { return axis_; }
  bool AtLastAxis() const { return axis_ == geometry_.axes() - 1; }
  AxisRelation relation() const { return {geometry_, out_shape_, axis_}; }
  const TrieLevel& in_level() const { return in_[static_cast<size_t>(axis_) + 1]; }
  PrefixRulebook prefixes() const { return {neighbors_.data(), volume_, outputs_}; }

  TrieLevel Generate() const {
    return GenerateLevel(context_, in_level(), relation(), prefixes(), geometry_.KernelVolume());
  }

  // Goes one axis down, to the output prefixes `out`.
  void Advance(const TrieLevel& out) {
    const int64_t volume = volume_ * relation().kernel;
    const int64_t cells =
        CheckedProduct(volume, out.nodes(), kMaxRulebookCells, "rulebook cells (K * M)");
    std::vector<int32_t> next(static_cast<size_t>(cells));
    FillNeighbors(context_, in_level(), out, relation(), prefixes(), next.data());
    neighbors_ = std::move(next);
    volume_ = volume;
    outputs_ = out.nodes();
    ++axis_;
  }

 private:
  CpuContext& context_;
  const SiteTrie& in_;
  const ConvGeometry& geometry_;
  const SpatialShape& out_shape_;
  int axis_ = 0;
  std::vector<int32_t> neighbors_;
  int64_t volume_ = 0, outputs_ = 0;
};

void CheckRulebookCells(const ConvGeometry& geometry, int64_t outputs) {
  CheckedProduct(geometry.KernelVolume(), outputs, kMaxRulebookCells, "rulebook cells (K * M)");
}

// coords [rows, columns] of a level from those of its parents [parents, columns - 1].
void ExtendPrefixes(CpuContext& context, const std::vector<int32_t>& parents,
                    const TrieLevel& level, int64_t columns, int32_t* coords) {
  cpu::ForBlocks(context, level.parents(), 1024, [&](int64_t, int64_t begin, int64_t end) {
    for (int64_t parent = begin; parent < end; ++parent) {
      const auto p = static_cast<size_t>(parent);
      for (int64_t node = level.begin[p]; node < level.begin[p + 1]; ++node) {
        int32_t* row = coords + node * columns;
        std::copy_n(parents.data() + parent * (columns - 1), columns - 1, row);
        row[columns - 1] = level.coord[static_cast<size_t>(node)];
      }
    }
  });
}

}  // namespace

template <>
void SubmanifoldRulebook<Device::kCpu>(CpuContext& context, CoordsView coords,
                                       const SpatialShape& shape, const PerAxis& kernel_size,
                                       const PerAxis& dilation, int32_t* neighbors) {
  const ConvGeometry geometry = SubmanifoldGeometry(kernel_size, dilation);
  geometry.OutputShape(shape);
  CheckRulebookCells(geometry, coords.rows);
  const SiteTrie sites = cpu::BuildTrie(coords, shape);
  Descent descent(context, sites, geometry, shape);
  descent.StartAt(sites[0]);
  while (!descent.AtLastAxis()) descent.Advance(descent.in_level());
  FillNeighbors(context, sites.back(), sites.back(), descent.relation(), descent.prefixes(),
                neighbors);
}

template <>
void SparseRulebook<Device::kCpu>(CpuContext& context, CoordsView coords,
                                  const SpatialShape& input_shape, const ConvGeometry& geometry,
                                  FunctionRef<GeneratedSites(int64_t)> allocate) {
  geometry.Check();
  const SpatialShape out_shape = geometry.OutputShape(input_shape);
  const SiteTrie in = cpu::BuildTrie(coords, input_shape);
  Descent descent(context, in, geometry, out_shape);
  descent.StartAt(in[0]);
  std::vector<int32_t> prefixes = in[0].coord;
  TrieLevel out = descent.Generate();
  while (!descent.AtLastAxis()) {
    const int64_t columns = descent.axis() + 2;
    std::vector<int32_t> extended(static_cast<size_t>(out.nodes() * columns));
    ExtendPrefixes(context, prefixes, out, columns, extended.data());
    prefixes = std::move(extended);
    descent.Advance(out);
    out = descent.Generate();
  }
  CheckRulebookCells(geometry, out.nodes());
  const GeneratedSites result = allocate(out.nodes());
  ExtendPrefixes(context, prefixes, out, coords.columns(), result.coords);
  FillNeighbors(context, descent.in_level(), out, descent.relation(), descent.prefixes(),
                result.neighbors);
}

template <>
void SparseRulebookAt<Device::kCpu>(CpuContext& context, CoordsView coords,
                                    const SpatialShape& input_shape, const ConvGeometry& geometry,
                                    CoordsView out_coords, int32_t* neighbors) {
  geometry.Check();
  const SpatialShape out_shape = geometry.OutputShape(input_shape);
  CheckRulebookCells(geometry, out_coords.rows);
  const SiteTrie in = cpu::BuildTrie(coords, input_shape);
  const SiteTrie out = cpu::BuildTrie(out_coords, out_shape);
  Descent descent(context, in, geometry, out_shape);
  descent.StartAt(out[0]);
  while (!descent.AtLastAxis()) descent.Advance(out[static_cast<size_t>(descent.axis()) + 1]);
  FillNeighbors(context, descent.in_level(), out.back(), descent.relation(), descent.prefixes(),
                neighbors);
}

template <>
void InverseRulebook<Device::kCpu>(CpuContext& context, const int32_t* neighbors,
                                   int64_t kernel_volume, int64_t outputs, int64_t inputs,
                                   int32_t* inverse) {
  CheckedProduct(kernel_volume, inputs, kMaxRulebookCells, "rulebook cells (K * N)");
  context.ParallelFor(kernel_volume, [&](int64_t k) {
    const int32_t* from = neighbors + k * outputs;
    int32_t* to = inverse + k * inputs;
    std::fill_n(to, inputs, -1);
    for (int64_t o = 0; o < outputs; ++o) {
      const int32_t i = from[o];
      if (i == -1) continue;
      if (i < 0 || i >= inputs) {
        ThrowInvalid("neighbors[", k, ", ", o, "] is ", i, ", must be -1 or in [0, ", inputs, ")");
      }
      if (to[i] != -1) {
        ThrowInvalid("neighbors[", k, "] has input row ", i, " at outputs ", to[i], " and ", o,
                     "; a rulebook has it once at most");
      }
      to[i] = static_cast<int32_t>(o);
    }
  });
}

}  // namespace rulebook
