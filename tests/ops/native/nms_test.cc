// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// Rotated suppression on boxes whose overlap is known in closed form.
#include "rulebook/nms.h"

#include <vector>

#include "check.h"
#include "support.h"

using support::kCpu;

namespace {

constexpr float kPi = 3.14159265F;
using Kept = std::vector<int64_t>;

struct Box {
  float x;
  float y;
  float dx;
  float dy;
  float yaw;
};

Kept Run(const std::vector<Box>& boxes, const std::vector<float>& scores,
         const std::vector<int32_t>& frame, const rulebook::NmsOptions& options, int threads = 2) {
  std::vector<float> values;
  for (const Box& box : boxes) {
    values.insert(values.end(), {box.x, box.y, 0.0F, box.dx, box.dy, 1.0F, box.yaw});
  }
  Kept kept;
  const auto pool = rulebook::MakeThreadPool(threads);
  rulebook::RotatedNms<kCpu>(*pool, values.data(), scores.data(), frame.data(),
                             static_cast<int64_t>(boxes.size()), options, [&](int64_t rows) {
                               kept.resize(static_cast<size_t>(rows));
                               return kept.data();
                             });
  return kept;
}

// Whether the second box falls to the first at thresholds just below and just above `iou`.
void CheckIou(const Box& a, const Box& b, float iou) {
  rulebook::NmsOptions options;
  options.iou_threshold = iou - 1e-4F;
  CHECK_EQ(Run({a, b}, {0.9F, 0.8F}, {0, 0}, options).size(), size_t{1});
  options.iou_threshold = iou + 1e-4F;
  CHECK_EQ(Run({a, b}, {0.9F, 0.8F}, {0, 0}, options).size(), size_t{2});
}

}  // namespace

TEST(OverlapsKnownInClosedForm) {
  const Box car{10, -20, 4, 2, 0.3F};
  CheckIou(car, car, 1.0F);
  CheckIou({0, 0, 4, 2, 0}, {0, 0, 4, 2, kPi}, 1.0F);
  CheckIou({0, 0, 4, 2, 0}, {0, 0, 2, 4, kPi / 2}, 1.0F);
  CheckIou({0, 0, 4, 2, 0}, {1, 0, 4, 2, 0}, 0.6F);
  CheckIou({0, 0, 4, 2, 0}, {0, 0, 4, 2, kPi / 2}, 4.0F / 12.0F);
  // Two unit squares, one turned by 45 degrees, share a regular octagon of area 2 (sqrt 2 - 1).
  CheckIou({3, 3, 1, 1, 0}, {3, 3, 1, 1, kPi / 4}, 0.70710678F);
  CheckIou({0, 0, 4, 4, 0.7F}, {0, 0, 1, 1, 0.2F}, 1.0F / 16.0F);
}

TEST(BoxesWithoutOverlapOrAreaAreKept) {
  rulebook::NmsOptions options;
  options.iou_threshold = 0.0F;
  const Kept all = {0, 1, 2, 3};
  CHECK(Run({{0, 0, 4, 2, 0}, {4, 0, 4, 2, 0}, {0, 0, 0, 2, 0}, {0, 0, -1, 2, 0}},
            {0.9F, 0.8F, 0.7F, 0.6F}, {0, 0, 0, 0}, options) == all);
}

TEST(ASuppressedBoxSuppressesNothing) {
  rulebook::NmsOptions options;
  options.iou_threshold = 0.5F;
  CHECK(Run({{0, 0, 4, 2, 0}, {1, 0, 4, 2, 0}, {2, 0, 4, 2, 0}}, {0.9F, 0.8F, 0.7F}, {0, 0, 0},
            options) == (Kept{0, 2}));
}

TEST(FramesScoresAndIndicesOrderTheKept) {
  rulebook::NmsOptions options;
  const Box far{100, 0, 1, 1, 0};
  const Box near{0, 0, 1, 1, 0};
  const Box right{50, 0, 1, 1, 0};
  const std::vector<Box> boxes = {near, far, near, right, far};
  const std::vector<float> scores = {0.5F, 0.5F, 0.9F, 0.5F, 0.1F};
  const std::vector<int32_t> frame = {4, 4, 2, 4, 4};
  CHECK(Run(boxes, scores, frame, options) == (Kept{2, 0, 1, 3}));
  options.max_per_frame = 2;
  CHECK(Run(boxes, scores, frame, options) == (Kept{2, 0, 1}));
  options.score_threshold = 0.6F;
  CHECK(Run(boxes, scores, frame, options) == (Kept{2}));
  CHECK(Run({}, {}, {}, options).empty());
}

TEST(ManyBoxesKeepTheSameAtAnyThreadCount) {
  support::Random random(77);
  std::vector<Box> boxes;
  std::vector<float> scores;
  for (int i = 0; i < 2000; ++i) {
    boxes.push_back({60 * random.Float(), 60 * random.Float(), 3 + random.Float(),
                     2 + random.Float(), 3 * random.Float()});
    scores.push_back(random.Float() + 1);
  }
  rulebook::NmsOptions options;
  options.iou_threshold = 0.1F;
  for (const int32_t frames : {1, 3}) {
    std::vector<int32_t> frame;
    for (int32_t i = 0; i < 2000; ++i) frame.push_back(i % frames);
    const Kept alone = Run(boxes, scores, frame, options, 1);
    CHECK(alone.size() > 300 && alone.size() < 2000);
    for (const int threads : {2, 4}) CHECK(Run(boxes, scores, frame, options, threads) == alone);
  }
}
