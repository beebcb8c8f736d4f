// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#include "trie_descent.h"

#include <algorithm>
#include <atomic>
#include <limits>
#include <vector>

#include "chunks.h"

namespace rulebook::cpu {
namespace {

// --- which outputs exist -------------------------------------------------------------------------

// The union of what several sorted lists of inputs feed, found in windows of a small bitmap: its
// memory does not grow with the grid, and empty stretches of a line are stepped over.
class OutputUnion {
 public:
  explicit OutputUnion(const AxisRelation& relation) : relation_(relation) {}

  void Clear() { lists_.clear(); }
  void Add(const int32_t* first, const int32_t* last) {
    if (first != last) lists_.push_back({first, last});
  }

  // Appends the outputs in ascending order.
  void AppendTo(std::vector<int32_t>& outputs) {
    int64_t window = 0;
    while (NextWindow(window)) {
      MarkWindow(window);
      TakeMarked(window, outputs);
      window += kWindow;
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

  void MarkWindow(int64_t window) {
    for (const auto& list : lists_) {
      for (const int32_t* i = list.head; i != list.last; ++i) {
        if (relation_.FirstOutput(*i) >= window + kWindow) break;
        relation_.ForEachOutput(*i, window, window + kWindow, [&](int64_t o) {
          const int64_t bit = o - window;
          bits_[bit / 64] |= uint64_t{1} << (bit % 64);
          used_words_ = std::max(used_words_, bit / 64 + 1);
        });
      }
    }
  }

  void TakeMarked(int64_t window, std::vector<int32_t>& outputs) {
    for (int64_t word = 0; word < used_words_; ++word) {
      for (uint64_t bits = bits_[word]; bits != 0; bits &= bits - 1) {
        outputs.push_back(static_cast<int32_t>(window + word * 64 + __builtin_ctzll(bits)));
      }
      bits_[word] = 0;
    }
    used_words_ = 0;
  }

  const AxisRelation relation_;
  std::vector<List> lists_;
  uint64_t bits_[kWords] = {};
  int64_t used_words_ = 0;
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

// Pairs two sorted lists of one axis: calls pair(k, i, o) for every input node i that feeds output
// node o through kernel index k.
template <bool kTransposed, typename Pair>
inline void PairChildren(const AxisRelation& relation, Children in, Children out, Pair pair) {
  const int64_t reach = relation.reach();
  const int64_t in_scale = kTransposed ? relation.stride : 1;
  const int64_t out_scale = kTransposed ? 1 : relation.stride;
  // With a = scaled input and b = scaled output - padding, k * dilation = a - b (regular) or b - a
  // (transposed, where the padding adds): a lies in a window of `reach` that only moves up.
  const int64_t shift = kTransposed ? relation.padding - reach : -relation.padding;
  int64_t first = in.begin;
  for (int64_t o = out.begin; o < out.end; ++o) {
    const int64_t low = out.coord[o] * out_scale + shift;
    while (first < in.end && in.coord[first] * in_scale < low) ++first;
    for (int64_t i = first; i < in.end; ++i) {
      const int64_t distance = in.coord[i] * in_scale - low;
      if (distance > reach) break;
      const int64_t offset = kTransposed ? reach - distance : distance;
      if (relation.dilation == 1) {
        pair(offset, i, o);
      } else if (offset % relation.dilation == 0) {
        pair(offset / relation.dilation, i, o);
      }
    }
  }
}

// Where the cells of one line of outputs go: cells[(offset + k) * rows + o]. A submanifold rulebook
// gets the same pair seen from the other side too, in the mirrored offset.
struct LineCells {
  int32_t* cells;  // [K, rows]
  int64_t rows;
  int64_t offset;  // of the line's first kernel index
  int64_t volume;  // K
};

// The case that matters for speed, a regular convolution without dilation: the inputs of one output
// are a run of `kernel` consecutive coordinates. Which of them are present is a coin toss, so no
// branch depends on it: every cell is written, and where there is no pair to mirror the store goes
// to the center offset, whose cell for o is o anyway. kKernel = 0 takes the size from kernel_used.
template <int kKernel, bool kMirror>
void FillLine(const AxisRelation& relation, Children in, Children out, int64_t kernel_used,
              LineCells line) {
  const int64_t kernel = kKernel > 0 ? kKernel : kernel_used;
  const int64_t rows = line.rows;
  const int64_t last = in.end - 1;
  int32_t* cells = line.cells + line.offset * rows;
  int32_t* center = line.cells + line.volume / 2 * rows;
  const int64_t mirror = (line.volume - 1 - line.offset - line.volume / 2) * rows;
  int64_t first = in.begin;
  for (int64_t o = out.begin; o < out.end; ++o) {
    const int64_t low = out.coord[o] * relation.stride - relation.padding;
    while (first < last && in.coord[first] < low) ++first;
    // Rows before `next` lie below low + k, so clamping to the last row can never match by mistake.
    int64_t next = first + static_cast<int64_t>(in.coord[first] < low);
    for (int64_t k = 0; k < kernel; ++k) {
      const int64_t i = std::min(next, last);
      const auto present = static_cast<int64_t>(in.coord[i] == low + k);
      cells[k * rows + o] = static_cast<int32_t>(i | (present - 1));
      if constexpr (kMirror) {
        center[o + ((mirror - k * rows + i - o) & -present)] = static_cast<int32_t>(o);
      }
      next += present;
    }
  }
}

template <bool kMirror>
void FillLineAnyKernel(const AxisRelation& relation, Children in, Children out, int64_t kernel_used,
                       LineCells line) {
  switch (kernel_used) {
    case 1:
      return FillLine<1, kMirror>(relation, in, out, kernel_used, line);
    case 3:
      return FillLine<3, kMirror>(relation, in, out, kernel_used, line);
    default:
      return FillLine<0, kMirror>(relation, in, out, kernel_used, line);
  }
}

void FillParent(const TrieLevel& in, const TrieLevel& out, const AxisRelation& relation,
                const PrefixRulebook& parents, int64_t parent, int32_t* neighbors) {
  const int64_t outputs = out.nodes();
  const Children out_children = ChildrenOf(out, parent);
  for (int64_t prefix = 0; prefix < parents.volume; ++prefix) {
    const int32_t in_parent = parents.at(prefix, parent);
    if (in_parent < 0) continue;
    const Children in_children = ChildrenOf(in, in_parent);
    if (in_children.begin == in_children.end) continue;
    int32_t* cells = neighbors + prefix * relation.kernel * outputs;
    const auto pair = [=](int64_t k, int64_t i, int64_t o) {
      cells[k * outputs + o] = static_cast<int32_t>(i);
    };
    if (relation.transposed) {
      PairChildren<true>(relation, in_children, out_children, pair);
    } else if (relation.dilation > 1) {
      PairChildren<false>(relation, in_children, out_children, pair);
    } else {
      FillLineAnyKernel<false>(relation, in_children, out_children, relation.kernel,
                               {neighbors, outputs, prefix * relation.kernel, 0});
    }
  }
}

// One parent of a submanifold level: the offsets before the center, and their mirror images.
void FillMirroredParent(const TrieLevel& sites, const AxisRelation& relation,
                        const PrefixRulebook& parents, int64_t parent, int32_t* neighbors) {
  const int64_t rows = sites.nodes();
  const int64_t last_offset = parents.volume * relation.kernel - 1;
  const Children children = ChildrenOf(sites, parent);
  for (int64_t prefix = 0; prefix <= parents.volume / 2; ++prefix) {
    const int32_t in_parent = parents.at(prefix, parent);
    if (in_parent < 0) continue;
    const Children in_children = ChildrenOf(sites, in_parent);
    if (in_children.begin == in_children.end) continue;
    const int64_t offset = prefix * relation.kernel;
    const int64_t kernel_used = prefix < parents.volume / 2 ? relation.kernel : relation.kernel / 2;
    int32_t* cells = neighbors + offset * rows;
    int32_t* mirror = neighbors + (last_offset - offset) * rows;
    if (relation.dilation == 1) {
      FillLineAnyKernel<true>(relation, in_children, children, kernel_used,
                              {neighbors, rows, offset, parents.volume * relation.kernel});
      continue;
    }
    PairChildren<false>(relation, in_children, children, [=](int64_t k, int64_t i, int64_t o) {
      if (k >= kernel_used) return;
      cells[k * rows + o] = static_cast<int32_t>(i);
      mirror[-k * rows + i] = static_cast<int32_t>(o);
    });
  }
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

TrieLevel GenerateLevel(CpuContext& context, const TrieLevel& in, const AxisRelation& relation,
                        const PrefixRulebook& parents) {
  struct Part {
    std::vector<int32_t> coord;
    std::vector<int32_t> counts;
  };
  const Chunks chunks(parents.outputs, 64);
  std::vector<Part> parts(static_cast<size_t>(chunks.count()));
  std::atomic<int64_t> total{0};
  context.ParallelFor(chunks.count(), [&](int64_t task) {
    Part& part = parts[static_cast<size_t>(task)];
    OutputUnion outputs(relation);
    for (int64_t parent = chunks.begin(task); parent < chunks.end(task); ++parent) {
      outputs.Clear();
      for (int64_t prefix = 0; prefix < parents.volume; ++prefix) {
        const int32_t in_parent = parents.at(prefix, parent);
        if (in_parent < 0) continue;
        const Children children = ChildrenOf(in, in_parent);
        outputs.Add(children.coord + children.begin, children.coord + children.end);
      }
      const size_t before = part.coord.size();
      outputs.AppendTo(part.coord);
      const auto count = static_cast<int64_t>(part.coord.size() - before);
      part.counts.push_back(static_cast<int32_t>(count));
      if (total.fetch_add(count) + count > kMaxSites) {
        ThrowTooLarge("the convolution generates more than ", kMaxSites, " sites");
      }
    }
  });
  TrieLevel out;
  out.coord.reserve(static_cast<size_t>(total.load()));
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

void FillMirrored(CpuContext& context, const TrieLevel& sites, const AxisRelation& relation,
                  const PrefixRulebook& parents, int32_t* neighbors) {
  const int64_t rows = sites.nodes();
  const int64_t volume = parents.volume * relation.kernel;
  const Chunks fill(volume * rows, 1 << 18);
  context.ParallelFor(fill.count(), [&](int64_t task) {
    std::fill(neighbors + fill.begin(task), neighbors + fill.end(task), -1);
  });
  ForEachParentChunk(context, sites, [&](int64_t first, int64_t last) {
    for (int64_t parent = first; parent < last; ++parent) {
      FillMirroredParent(sites, relation, parents, parent, neighbors);
    }
    // The center: every site feeds itself.
    int32_t* center = neighbors + volume / 2 * rows;
    for (int32_t o = sites.begin[static_cast<size_t>(first)];
         o < sites.begin[static_cast<size_t>(last)]; ++o) {
      center[o] = o;
    }
  });
}

}  // namespace rulebook::cpu
