// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#include "rulebook/union.h"

#include <algorithm>
#include <vector>

#include "conversion_loops.h"
#include "parallel.h"
#include "site_index.h"
#include "union_input.h"

namespace rulebook {
namespace {

constexpr int64_t kRowsPerBlock = 4096;

using Keys = std::vector<uint64_t>;

// Rows of a and of b whose keys lie between two cuts, and the output row they begin at.
struct Cut {
  int64_t a = 0;
  int64_t b = 0;
  int64_t out = 0;
};

// Calls visit(row of a or -1, row of b or -1) for every distinct key, ascending.
template <typename Visit>
void Merge(const Keys& a, const Keys& b, const Cut& from, const Cut& to, const Visit& visit) {
  int64_t i = from.a;
  int64_t j = from.b;
  while (i < to.a || j < to.b) {
    const bool a_left = i < to.a;
    const bool b_left = j < to.b;
    const uint64_t key_a = a_left ? a[static_cast<size_t>(i)] : 0;
    const uint64_t key_b = b_left ? b[static_cast<size_t>(j)] : 0;
    const bool take_a = a_left && (!b_left || key_a <= key_b);
    const bool take_b = b_left && (!a_left || key_b <= key_a);
    visit(take_a ? i : -1, take_b ? j : -1);
    i += take_a ? 1 : 0;
    j += take_b ? 1 : 0;
  }
}

// Cuts both sides at every kRowsPerBlock-th key of the longer one, so that a block's merge needs
// nothing of another's.
std::vector<Cut> CutBlocks(const Keys& a, const Keys& b) {
  const Keys& longer = a.size() >= b.size() ? a : b;
  std::vector<Cut> cuts(1);
  for (size_t i = static_cast<size_t>(kRowsPerBlock); i < longer.size();
       i += static_cast<size_t>(kRowsPerBlock)) {
    Cut cut;
    cut.a = std::lower_bound(a.begin(), a.end(), longer[i]) - a.begin();
    cut.b = std::lower_bound(b.begin(), b.end(), longer[i]) - b.begin();
    cuts.push_back(cut);
  }
  cuts.push_back({static_cast<int64_t>(a.size()), static_cast<int64_t>(b.size()), 0});
  return cuts;
}

template <typename T>
struct Side {
  const T* features;
  int64_t channels;
};

template <typename T>
void AddInto(const T* __restrict source, int64_t channels, T* __restrict out) {
  for (int64_t c = 0; c < channels; ++c) {
    out[c] = cpu::FromFloat<T>(cpu::ToFloat(out[c]) + cpu::ToFloat(source[c]));
  }
}

template <typename T>
void WriteRow(const Side<T>& a, int64_t i, const Side<T>& b, int64_t j, UnionMode mode, T* out) {
  if (mode == UnionMode::kConcat) {
    if (i >= 0) {
      std::copy_n(a.features + i * a.channels, a.channels, out);
    } else {
      std::fill_n(out, a.channels, T{});
    }
    if (j >= 0) {
      std::copy_n(b.features + j * b.channels, b.channels, out + a.channels);
    } else {
      std::fill_n(out + a.channels, b.channels, T{});
    }
    return;
  }
  const Side<T>& first = i >= 0 ? a : b;
  std::copy_n(first.features + (i >= 0 ? i : j) * a.channels, a.channels, out);
  if (i >= 0 && j >= 0) AddInto(b.features + j * b.channels, b.channels, out);
}

}  // namespace

template <Device D, typename T>
void SparseUnion(Context<D>& context, CoordsView coords_a, const T* features_a, int64_t channels_a,
                 CoordsView coords_b, const T* features_b, int64_t channels_b, UnionMode mode,
                 FunctionRef<UnionSites<T>(int64_t)> allocate) {
  cpu::CheckUnion(coords_a, channels_a, coords_b, channels_b, mode);
  const cpu::KeyBox box = cpu::BoundingBox(context, coords_a, coords_b);
  Keys a(static_cast<size_t>(coords_a.rows));
  Keys b(static_cast<size_t>(coords_b.rows));
  cpu::PackCanonical(context, coords_a, box, "coords_a", a.data());
  cpu::PackCanonical(context, coords_b, box, "coords_b", b.data());

  std::vector<Cut> cuts = CutBlocks(a, b);
  const int64_t blocks = static_cast<int64_t>(cuts.size()) - 1;
  context.ParallelFor(blocks, [&](int64_t block) {
    Cut& to = cuts[static_cast<size_t>(block) + 1];
    int64_t count = 0;
    Merge(a, b, cuts[static_cast<size_t>(block)], to, [&](int64_t, int64_t) { ++count; });
    to.out = count;
  });
  for (size_t i = 1; i < cuts.size(); ++i) cuts[i].out += cuts[i - 1].out;
  const int64_t total = cuts.back().out;
  if (total > kMaxSites)
    ThrowTooLarge("SparseUnion: ", total, " sites are over the limit ", kMaxSites);

  const int64_t channels = mode == UnionMode::kSum ? channels_a : channels_a + channels_b;
  CheckedProduct(total, channels, kMaxDenseElements, "SparseUnion: sites x channels");
  const UnionSites<T> sites = allocate(total);
  const int64_t columns = coords_a.columns();
  context.ParallelFor(blocks, [&](int64_t block) {
    const Cut& from = cuts[static_cast<size_t>(block)];
    int64_t row = from.out;
    Merge(a, b, from, cuts[static_cast<size_t>(block) + 1], [&](int64_t i, int64_t j) {
      const int32_t* site = i >= 0 ? coords_a.row(i) : coords_b.row(j);
      std::copy_n(site, columns, sites.coords + row * columns);
      WriteRow(Side<T>{features_a, channels_a}, i, Side<T>{features_b, channels_b}, j, mode,
               sites.features + row * channels);
      ++row;
    });
  });
}

template void SparseUnion<Device::kCpu>(CpuContext&, CoordsView, const float*, int64_t, CoordsView,
                                        const float*, int64_t, UnionMode,
                                        FunctionRef<UnionSites<float>(int64_t)>);
template void SparseUnion<Device::kCpu>(CpuContext&, CoordsView, const Float16*, int64_t,
                                        CoordsView, const Float16*, int64_t, UnionMode,
                                        FunctionRef<UnionSites<Float16>(int64_t)>);
template void SparseUnion<Device::kCpu>(CpuContext&, CoordsView, const BFloat16*, int64_t,
                                        CoordsView, const BFloat16*, int64_t, UnionMode,
                                        FunctionRef<UnionSites<BFloat16>(int64_t)>);

}  // namespace rulebook
