// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#include "rulebook/nms.h"

#include <algorithm>
#include <array>
#include <vector>

#include "bev_box.h"
#include "nms_input.h"
#include "parallel.h"

namespace rulebook {
namespace {

using cpu::BevBox;
using cpu::kBoxFields;

constexpr int64_t kWave = 256;         // candidates tested against all kept boxes at once
constexpr int64_t kBoxesPerTask = 32;  // of a wave

// The boxes that take part, in the order in which they are considered.
std::vector<int64_t> Candidates(const float* boxes, const float* scores, const int32_t* frame,
                                int64_t rows, float score_threshold) {
  std::vector<int64_t> order;
  for (int64_t r = 0; r < rows; ++r) {
    if (cpu::TakesPart(boxes + r * kBoxFields, scores[r], score_threshold)) order.push_back(r);
  }
  std::sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
    if (frame[a] != frame[b]) return frame[a] < frame[b];
    if (scores[a] != scores[b]) return scores[a] > scores[b];
    return a < b;
  });
  return order;
}

// Whether a kept box suppresses `box`.
bool Suppressed(const std::vector<BevBox>& kept, size_t from, const BevBox& box, double threshold) {
  for (size_t i = from; i < kept.size(); ++i) {
    if (cpu::BevIou(kept[i], box) > threshold) return true;
  }
  return false;
}

// Candidates order[begin … end) of one frame; returns the kept ones. A wave of candidates is tested
// against the boxes kept before it in parallel (`context` given), then among themselves in turn.
std::vector<int64_t> KeepInFrame(CpuContext* context, const float* boxes, const int64_t* order,
                                 int64_t begin, int64_t end, const NmsOptions& options) {
  const double threshold = double{options.iou_threshold};
  const size_t most = options.max_per_frame > 0 ? static_cast<size_t>(options.max_per_frame)
                                                : static_cast<size_t>(end - begin);
  std::vector<int64_t> kept;
  std::vector<BevBox> kept_boxes;
  std::array<BevBox, kWave> wave;
  std::array<bool, kWave> dropped;
  for (int64_t w = begin; w < end && kept.size() < most; w += kWave) {
    const int64_t count = std::min(kWave, end - w);
    auto test = [&](int64_t, int64_t from, int64_t to) {
      for (int64_t i = from; i < to; ++i) {
        BevBox& box = wave[static_cast<size_t>(i)];
        box = cpu::MakeBevBox(boxes + order[w + i] * kBoxFields);
        dropped[static_cast<size_t>(i)] = Suppressed(kept_boxes, 0, box, threshold);
      }
    };
    if (context != nullptr && w > begin) {
      cpu::ForBlocks(*context, count, kBoxesPerTask, test);
    } else {
      test(0, 0, count);
    }
    const size_t before = kept_boxes.size();
    for (int64_t i = 0; i < count && kept.size() < most; ++i) {
      const BevBox& box = wave[static_cast<size_t>(i)];
      if (dropped[static_cast<size_t>(i)]) continue;
      if (Suppressed(kept_boxes, before, box, threshold)) continue;
      kept.push_back(order[w + i]);
      kept_boxes.push_back(box);
    }
  }
  return kept;
}

}  // namespace

template <>
void RotatedNms<Device::kCpu>(CpuContext& context, const float* boxes, const float* scores,
                              const int32_t* frame, int64_t rows, const NmsOptions& options,
                              FunctionRef<int64_t*(int64_t)> allocate) {
  cpu::CheckNms(rows, options);
  const std::vector<int64_t> order =
      Candidates(boxes, scores, frame, rows, options.score_threshold);
  const int64_t total = static_cast<int64_t>(order.size());
  std::vector<int64_t> begin;
  for (int64_t i = 0; i < total; ++i) {
    const size_t j = static_cast<size_t>(i);
    if (i == 0 || frame[order[j]] != frame[order[j - 1]]) begin.push_back(i);
  }
  const int64_t frames = static_cast<int64_t>(begin.size());
  begin.push_back(total);

  // Threads share out frames; a single frame's boxes are shared out instead.
  std::vector<std::vector<int64_t>> kept(static_cast<size_t>(frames));
  context.ParallelFor(frames > 1 ? frames : 0, [&](int64_t f) {
    const size_t j = static_cast<size_t>(f);
    kept[j] = KeepInFrame(nullptr, boxes, order.data(), begin[j], begin[j + 1], options);
  });
  if (frames == 1) kept[0] = KeepInFrame(&context, boxes, order.data(), 0, total, options);

  size_t count = 0;
  for (const auto& rows_kept : kept) count += rows_kept.size();
  int64_t* out = allocate(static_cast<int64_t>(count));
  for (const auto& rows_kept : kept) out = std::copy(rows_kept.begin(), rows_kept.end(), out);
}

}  // namespace rulebook
