// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#include "trie_descent.h"

#include <algorithm>
#include <atomic>
#include <limits>
#include <vector>

#include "line_kernels.h"
#include "parallel.h"

namespace rulebook::cpu {
namespace {

// --- which outputs exist -------------------------------------------------------------------------

// Counts what the tasks of one level generate, so that they stop before their memory is spent.
class SiteLimit {
 public:
  explicit SiteLimit(int64_t kernel_volume)
      : kernel_volume_(kernel_volume), limit_(MaxGeneratedSites(kernel_volume)) {}

  void Add(int64_t sites) {
    if (total_.fetch_add(sites, std::memory_order_relaxed) + sites <= limit_) return;
    ThrowTooManySites(kernel_volume_);
  }
  int64_t total() const { return total_.load(std::memory_order_relaxed); }

 private:
  const int64_t kernel_volume_;
  const int64_t limit_;
  std::atomic<int64_t> total_{0};
};

// The union of what several sorted lists of inputs feed, found in windows of a small bitmap: its
// memory does not grow with the grid, and empty stretches of a line are stepped over.
class OutputUnion {
 public:
  explicit OutputUnion(const AxisRelation& relation) : relation_(relation) {}

  void Clear() { lists_.clear(); }
  void Add(const int32_t* first, const int32_t* last) {
    if (first != last) lists_.push_back({first, last});
  }

  // Appends the outputs in ascending order, each window's after `limit` has let them pass.
  void AppendTo(std::vector<int32_t>& outputs, SiteLimit& limit) {
    int64_t window = 0;
    while (NextWindow(window)) {
      MarkWindow(window);
      const bool empty = !TakeMarked(window, outputs, limit);
      window += kWindow;
      if (empty) window = NextOutput(window);
    }
  }

 private:
  static constexpr int64_t kWords = 64;
  static constexpr int64_t kWindow = kWords * 64;

  struct List {
    const int32_t* head;
    const int32_t* last;
  };

  // Drops inputs that feed nothing at or after `window` and moves `window` up to the first output
  // that can exist. False when none is left.
  bool NextWindow(int64_t& window) {
    int64_t next = std::numeric_limits<int64_t>::max();
    for (auto& list : lists_) {
      while (list.head != list.last && relation_.LastOutput(*list.head) < window) ++list.head;
      if (list.head != list.last) next = std::min(next, relation_.FirstOutput(*list.head));
    }
    window = std::max(window, next);
    return window < relation_.out_size;
  }

  // The first output at or after `from`, or out_size. A wide dilation leaves gaps within the reach
  // of an input, where NextWindow sees none.
  int64_t NextOutput(int64_t from) const {
    int64_t next = relation_.out_size;
    for (const List& list : lists_) {
      for (const int32_t* i = list.head; i != list.last && relation_.FirstOutput(*i) < next; ++i) {
        relation_.ForEachOutput(*i, from, next, [&](int64_t o) { next = std::min(next, o); });
      }
    }
    return next;
  }

  // Marks what [window, window + kWindow) holds, and drops the inputs that feed nothing beyond.
  void MarkWindow(int64_t window) {
    const int64_t end = std::min(window + kWindow, relation_.out_size);
    const bool runs = relation_.FeedsRuns() && relation_.kernel <= 64;
    for (auto& list : lists_) {
      for (const int32_t* i = list.head; i != list.last; ++i) {
        const int64_t first = relation_.FirstOutput(*i);
        const int64_t last = relation_.LastOutput(*i);
        if (first >= end) break;
        if (last < end) list.head = i + 1;
        if (runs && first >= window && last < end) {
          if (last >= first) MarkRun(first - window, last - first + 1);
        } else {
          relation_.ForEachOutput(*i, window, end, [&](int64_t o) { MarkRun(o - window, 1); });
        }
      }
    }
  }

  // Sets `count` bits, 1 to 64 of them, from `bit` on.
  void MarkRun(int64_t bit, int64_t count) {
    const uint64_t run = ~uint64_t{0} >> (64 - count);
    const int64_t word = bit / 64;
    const int64_t shift = bit % 64;
    bits_[word] |= run << shift;
    bits_[word + 1] |= run >> 1 >> (63 - shift);
    first_word_ = std::min(first_word_, word);
    last_word_ = std::max(last_word_, word + 1);
  }

  // Moves what is marked to `outputs`. False when nothing is.
  bool TakeMarked(int64_t window, std::vector<int32_t>& outputs, SiteLimit& limit) {
    int64_t count = 0;
    for (int64_t word = first_word_; word <= last_word_; ++word) {
      for (uint64_t bits = bits_[word]; bits != 0; bits &= bits - 1) {
        found_[count++] = static_cast<int32_t>(window + word * 64 + __builtin_ctzll(bits));
      }
      bits_[word] = 0;
    }
    limit.Add(count);
    outputs.insert(outputs.end(), found_, found_ + count);
    first_word_ = kWords;
    last_word_ = -1;
    return count > 0;
  }

  const AxisRelation relation_;
  std::vector<List> lists_;
  uint64_t bits_[kWords + 1] = {};  // a run may reach one word further
  int64_t first_word_ = kWords;
  int64_t last_word_ = -1;
  int32_t found_[kWindow];
};

// --- who feeds whom ------------------------------------------------------------------------------

struct Children {
  const int32_t* coord;  // of the whole level
  int64_t begin, end;
};

Children ChildrenOf(const TrieLevel& level, int64_t parent) {
  const auto p = static_cast<size_t>(parent);
  return {level.coord.data(), level.begin[p], level.begin[p + 1]};
}

// How the coordinates of one axis are scaled so that input i feeds output o through kernel index k
// iff in(i) - out(o) = k * dilation (regular) or out(o) - in(i) = k * dilation (transposed).
template <bool kTransposed>
struct Scale {
  const AxisRelation& relation;

  int64_t in(int32_t coord) const { return coord * (kTransposed ? relation.stride : 1); }
  int64_t out(int32_t coord) const {
    return kTransposed ? coord + relation.padding : coord * relation.stride - relation.padding;
  }
};

// Pairs two sorted lists of one axis: calls pair(k, i, o) for every input node i that feeds output
// node o through kernel index k. An output looks at every input in the span of its kernel, a window
// that only moves up.
template <bool kTransposed, typename Pair>
void PairBySpan(const AxisRelation& relation, Children in, Children out, Pair pair) {
  const Scale<kTransposed> scale{relation};
  const int64_t reach = relation.reach();
  int64_t first = in.begin;
  for (int64_t o = out.begin; o < out.end; ++o) {
    const int64_t low = scale.out(out.coord[o]) - (kTransposed ? reach : 0);
    while (first < in.end && scale.in(in.coord[first]) < low) ++first;
    for (int64_t i = first; i < in.end; ++i) {
      const int64_t distance = scale.in(in.coord[i]) - low;
      if (distance > reach) break;
      const int64_t offset = kTransposed ? reach - distance : distance;
      if (offset % relation.dilation == 0) pair(offset / relation.dilation, i, o);
    }
  }
}

// The same by one merge of the lists per kernel index, whatever lies between the kernel's cells.
template <bool kTransposed, typename Pair>
void PairByIndex(const AxisRelation& relation, Children in, Children out, Pair pair) {
  const Scale<kTransposed> scale{relation};
  for (int64_t k = 0; k < relation.kernel; ++k) {
    const int64_t distance = (kTransposed ? -k : k) * relation.dilation;
    int64_t i = in.begin;
    for (int64_t o = out.begin; o < out.end; ++o) {
      const int64_t wanted = scale.out(out.coord[o]) + distance;
      while (i < in.end && scale.in(in.coord[i]) < wanted) ++i;
      if (i == in.end) break;
      if (scale.in(in.coord[i]) == wanted) pair(k, i, o);
    }
  }
}

template <bool kTransposed, typename Pair>
void PairChildren(const AxisRelation& relation, Children in, Children out, Pair pair) {
  // Without dilation all of a span are pairs; with a wide one few are.
  constexpr int64_t kShortReach = 64;
  if (relation.dilation == 1 || relation.reach() <= kShortReach) {
    PairBySpan<kTransposed>(relation, in, out, pair);
  } else {
    PairByIndex<kTransposed>(relation, in, out, pair);
  }
}

// Any geometry, one pair at a time.
void FillParent(const TrieLevel& in, const TrieLevel& out, const AxisRelation& relation,
                const PrefixRulebook& parents, int64_t parent, int32_t* neighbors) {
  const int64_t outputs = out.nodes();
  const Children out_children = ChildrenOf(out, parent);
  for (int64_t prefix = 0; prefix < parents.volume; ++prefix) {
    const int32_t in_parent = parents.at(prefix, parent);
    if (in_parent < 0) continue;
    const Children in_children = ChildrenOf(in, in_parent);
    int32_t* cells = neighbors + prefix * relation.kernel * outputs;
    const auto pair = [=](int64_t k, int64_t i, int64_t o) {
      cells[k * outputs + o] = static_cast<int32_t>(i);
    };
    if (relation.transposed) {
      PairChildren<true>(relation, in_children, out_children, pair);
    } else {
      PairChildren<false>(relation, in_children, out_children, pair);
    }
  }
}

// Whether FillTask can express it (see line_kernels.h) and is the faster way: it compares every
// input near a run of outputs with every kernel index.
bool FillsByLines(const AxisRelation& relation) {
  constexpr int64_t kLimit = std::numeric_limits<int32_t>::max();
  constexpr int64_t kMaxKernel = 32;
  return !relation.transposed && relation.dilation == 1 && relation.kernel <= kMaxKernel &&
         relation.out_size * relation.stride + relation.kernel < kLimit;
}

// Splits the parents of `level` so that every task has about the same number of children.
std::vector<int64_t> ParentChunks(const TrieLevel& level) {
  constexpr int64_t kChildren = 2048;
  std::vector<int64_t> bounds = {0};
  int64_t taken = 0;
  for (int64_t parent = 0; parent < level.parents(); ++parent) {
    const int64_t end = level.begin[static_cast<size_t>(parent) + 1];
    if (end - taken >= kChildren) {
      bounds.push_back(parent + 1);
      taken = end;
    }
  }
  if (bounds.back() != level.parents()) bounds.push_back(level.parents());
  return bounds;
}

template <typename Work>
void ForEachParentChunk(CpuContext& context, const TrieLevel& level, Work work) {
  const std::vector<int64_t> bounds = ParentChunks(level);
  context.ParallelFor(static_cast<int64_t>(bounds.size()) - 1, [&](int64_t task) {
    const auto t = static_cast<size_t>(task);
    work(bounds[t], bounds[t + 1]);
  });
}

}  // namespace

int64_t MaxGeneratedSites(int64_t kernel_volume) {
  return std::min(kMaxSites, kMaxRulebookCells / kernel_volume);
}

void ThrowTooManySites(int64_t kernel_volume) {
  const int64_t limit = MaxGeneratedSites(kernel_volume);
  if (limit == kMaxSites) {
    ThrowTooLarge("the convolution generates more than ", kMaxSites, " sites");
  }
  ThrowTooLarge("rulebook cells (K * M): ", kernel_volume, " x more than ", limit,
                " sites is over the limit ", kMaxRulebookCells);
}

TrieLevel GenerateLevel(CpuContext& context, const TrieLevel& in, const AxisRelation& relation,
                        const PrefixRulebook& parents, int64_t kernel_volume) {
  struct Part {
    std::vector<int32_t> coord;
    std::vector<int32_t> counts;
  };
  constexpr int64_t kParentsPerTask = 64;
  std::vector<Part> parts(static_cast<size_t>(CeilDiv(parents.outputs, kParentsPerTask)));
  SiteLimit limit(kernel_volume);
  ForBlocks(context, parents.outputs, kParentsPerTask,
            [&](int64_t block, int64_t begin, int64_t end) {
              Part& part = parts[static_cast<size_t>(block)];
              OutputUnion outputs(relation);
              for (int64_t parent = begin; parent < end; ++parent) {
                outputs.Clear();
                for (int64_t prefix = 0; prefix < parents.volume; ++prefix) {
                  const int32_t in_parent = parents.at(prefix, parent);
                  if (in_parent < 0) continue;
                  const Children children = ChildrenOf(in, in_parent);
                  outputs.Add(children.coord + children.begin, children.coord + children.end);
                }
                const size_t before = part.coord.size();
                outputs.AppendTo(part.coord, limit);
                part.counts.push_back(static_cast<int32_t>(part.coord.size() - before));
              }
            });
  TrieLevel out;
  out.coord.reserve(static_cast<size_t>(limit.total()));
  out.begin.reserve(static_cast<size_t>(parents.outputs) + 1);
  out.begin.push_back(0);
  for (const Part& part : parts) {
    out.coord.insert(out.coord.end(), part.coord.begin(), part.coord.end());
    for (const int32_t count : part.counts) out.begin.push_back(out.begin.back() + count);
  }
  return out;
}

void FillNeighbors(CpuContext& context, const TrieLevel& in, const TrieLevel& out,
                   const AxisRelation& relation, const PrefixRulebook& parents,
                   int32_t* neighbors) {
  const int64_t outputs = out.nodes();
  if (FillsByLines(relation)) {
    const LineKernels& kernels = LineKernelsOf(CurrentIsa());
    const FillTask task = {{in.coord.data(), in.begin.data()},
                           {out.coord.data(), out.begin.data()},
                           parents.neighbors,
                           parents.volume,
                           parents.outputs,
                           static_cast<int32_t>(relation.kernel),
                           static_cast<int32_t>(relation.stride),
                           static_cast<int32_t>(relation.padding),
                           neighbors,
                           outputs};
    ForEachParentChunk(context, out,
                       [&](int64_t first, int64_t last) { kernels.fill(task, first, last); });
    return;
  }
  const int64_t volume = parents.volume * relation.kernel;
  ForEachParentChunk(context, out, [&](int64_t first, int64_t last) {
    const int64_t begin = out.begin[static_cast<size_t>(first)];
    const int64_t end = out.begin[static_cast<size_t>(last)];
    for (int64_t k = 0; k < volume; ++k) {
      std::fill(neighbors + k * outputs + begin, neighbors + k * outputs + end, -1);
    }
    for (int64_t parent = first; parent < last; ++parent) {
      FillParent(in, out, relation, parents, parent, neighbors);
    }
  });
}

}  // namespace rulebook::cpu
