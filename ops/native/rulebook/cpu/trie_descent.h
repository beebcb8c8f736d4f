// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// One level of the walk down two tries: given which input prefix feeds which output prefix
// (`parents`), find it for prefixes one axis longer.
#pragma once

#include <cstdint>

#include "axis_relation.h"
#include "rulebook/context.h"
#include "site_trie.h"

namespace rulebook::cpu {

// A rulebook over prefixes: neighbors[k, o] = input node that feeds output node o, or -1.
struct PrefixRulebook {
  const int32_t* neighbors;  // [volume, outputs]
  int64_t volume;
  int64_t outputs;

  int32_t at(int64_t k, int64_t o) const { return neighbors[k * outputs + o]; }
};

// How many sites a convolution of `kernel_volume` offsets may generate, and the error past that.
int64_t MaxGeneratedSites(int64_t kernel_volume);
[[noreturn]] void ThrowTooManySites(int64_t kernel_volume);

// The output nodes fed by some input node, as a level below the output prefixes of `parents`.
// Throws ResourceExhausted when there are too many: a node counts as a site, even above the last
// level, and a rulebook of kernel_volume offsets has kMaxRulebookCells at most. Found out here, it
// costs neither time nor memory.
TrieLevel GenerateLevel(CpuContext& context, const TrieLevel& in, const AxisRelation& relation,
                        const PrefixRulebook& parents, int64_t kernel_volume);

// Writes neighbors [parents.volume * relation.kernel, out.nodes()].
void FillNeighbors(CpuContext& context, const TrieLevel& in, const TrieLevel& out,
                   const AxisRelation& relation, const PrefixRulebook& parents, int32_t* neighbors);

}  // namespace rulebook::cpu
