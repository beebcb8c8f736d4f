// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <iterator>
#include <limits>
#include <optional>
#include <vector>

#include "check.h"
#include "device_support.h"
#include "nms_waves.h"
#include "rulebook/nms.h"

using rulebook::CudaContext;
using rulebook::NmsOptions;
using support::DeviceArray;
using support::kCpu;
using support::kCuda;

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

using Kept = std::vector<int64_t>;

struct Boxes {
  std::vector<float> values;  // [R, 7]
  std::vector<float> scores;
  std::vector<int32_t> frame;

  int64_t count() const { return static_cast<int64_t>(frame.size()); }
  void Add(float x, float y, float dx, float dy, float yaw, float score, int32_t in_frame = 0) {
    for (const float value : {x, y, 0.5F, dx, dy, 1.5F, yaw}) values.push_back(value);
    scores.push_back(score);
    frame.push_back(in_frame);
  }
};

Kept OnCpu(rulebook::CpuContext& pool, const Boxes& boxes, const NmsOptions& options) {
  Kept kept;
  rulebook::RotatedNms<kCpu>(pool, boxes.values.data(), boxes.scores.data(), boxes.frame.data(),
                             boxes.count(), options, [&](int64_t count) {
                               kept.resize(static_cast<size_t>(count));
                               return kept.data();
                             });
  return kept;
}

// In waves of so many candidates; 0: as RotatedNms chooses.
Kept OnDevice(CudaContext& context, const Boxes& boxes, const NmsOptions& options, int64_t wave) {
  const DeviceArray<float> values(context, boxes.values);
  const DeviceArray<float> scores(context, boxes.scores);
  const DeviceArray<int32_t> frame(context, boxes.frame);
  std::optional<DeviceArray<int64_t>> kept;
  const auto allocate = [&](int64_t count) {
    CHECK(!kept.has_value());
    kept.emplace(context, count);
    return kept->get();
  };
  if (wave == 0) {
    rulebook::RotatedNms<kCuda>(context, values.get(), scores.get(), frame.get(), boxes.count(),
                                options, allocate);
  } else {
    rulebook::cuda::RotatedNmsInWaves(context, values.get(), scores.get(), frame.get(),
                                      boxes.count(), options, wave, allocate);
  }
  CHECK(kept.has_value());
  return kept->Read();
}

// The device keeps what the CPU keeps. Returns it.
Kept CheckCase(const Boxes& boxes, const NmsOptions& options, int64_t wave = 0,
               uint64_t seeds = 3) {
  const auto pool = rulebook::MakeThreadPool(1);
  const Kept expected = OnCpu(*pool, boxes, options);
  support::OnDevices(
      [&](CudaContext& context) { CHECK(OnDevice(context, boxes, options, wave) == expected); },
      seeds);
  return expected;
}

NmsOptions Options(float iou_threshold, int64_t max_per_frame = 0, float score_threshold = 0.0F) {
  NmsOptions options;
  options.iou_threshold = iou_threshold;
  options.max_per_frame = max_per_frame;
  options.score_threshold = score_threshold;
  return options;
}

// Boxes of which about half overlap one before them; few different scores; frames in any order.
Boxes RandomBoxes(int64_t count, int64_t frames, uint64_t seed) {
  support::Random random(seed);
  const float side = std::sqrt(static_cast<float>(count) / static_cast<float>(frames)) * 2.0F;
  Boxes boxes;
  for (int64_t i = 0; i < count; ++i) {
    boxes.Add(side * random.Float(), side * random.Float(), 3.0F + 2.0F * random.Float(),
              2.0F + random.Float(), 4.0F * random.Float(),
              static_cast<float>(random.Below(100)) / 64.0F - 0.5F,
              static_cast<int32_t>(random.Below(frames)) - 1);
  }
  return boxes;
}

}  // namespace

TEST(KeepsWhatTheCpuKeeps) {
  for (const int64_t count : {0, 1, 19, 64, 65}) {
    CheckCase(RandomBoxes(count, 1, 3), Options(0.1F));
    CheckCase(RandomBoxes(count, 2, 4), Options(0.3F, 4, -1.0F));
  }
  const Kept kept = CheckCase(RandomBoxes(989, 3, 5), Options(0.2F, 0, -1.0F));
  CHECK(kept.size() > 300 && kept.size() < 900);
  CHECK_EQ(CheckCase(RandomBoxes(989, 3, 6), Options(0.2F, 70)).size(), size_t{210});
}

TEST(WavesDoNotChangeWhatIsKept) {
  const Boxes one_frame = RandomBoxes(500, 1, 7);
  const Boxes frames = RandomBoxes(500, 3, 8);
  for (const int64_t wave : {64, 192}) {
    CheckCase(one_frame, Options(0.1F, 0, -1.0F), wave);
    CheckCase(frames, Options(0.1F, 0, -1.0F), wave);
    CheckCase(frames, Options(0.1F, 30, -1.0F), wave);
  }
}

TEST(ManyKeptBoxesBeforeAWave) {
  // 2200 boxes kept, more tiles of them than blocks share; then each again.
  Boxes boxes;
  for (int i = 0; i < 2200; ++i) {
    boxes.Add(10.0F * static_cast<float>(i), 0, 4, 2, 0, 5000.0F - static_cast<float>(i));
  }
  for (int i = 0; i < 2200; i += 15) {
    boxes.Add(10.0F * static_cast<float>(i) + 1, 0, 4, 2, 0, 100.0F - static_cast<float>(i) / 50);
  }
  CHECK_EQ(CheckCase(boxes, Options(0.5F), 2240, 1).size(), size_t{2200});
}

TEST(EachBoxFallsToTheOneBefore) {
  // Unless that one has fallen: every other one is kept, over the borders of tiles and waves.
  Boxes boxes;
  for (int i = 0; i < 200; ++i) {
    const auto place = static_cast<float>(i);
    boxes.Add(place, 0, 4, 2, 0, 1000.0F - place, i / 150);
  }
  for (const int64_t wave : {0, 64, 128}) {
    const Kept kept = CheckCase(boxes, Options(0.5F), wave);
    CHECK_EQ(kept.size(), size_t{100});
    CHECK_EQ(kept[33], int64_t{66});
    CHECK_EQ(CheckCase(boxes, Options(0.5F, 37), wave).size(), size_t{62});
  }
}

TEST(AFramesLastBoxesComeFromTheNextWave) {
  // The first wave keeps box 0 and all odd ones: 33.
  Boxes boxes;
  boxes.Add(-100, 0, 4, 2, 0, 2000.0F);
  for (int i = 1; i < 100; ++i) {
    const auto place = static_cast<float>(i);
    boxes.Add(place, 0, 4, 2, 0, 1000.0F - place);
  }
  for (int64_t most = 32; most <= 35; ++most) {
    const Kept kept = CheckCase(boxes, Options(0.5F, most), 64);
    CHECK_EQ(kept.back(), 2 * most - 3);
  }
}

TEST(OneBoxAgainAtTheEdgesOfTiles) {
  for (const int first : {0, 1, 62, 63, 64, 65, 127}) {
    Boxes boxes;
    for (int i = 0; i < 200; ++i) {
      const bool again =
          i >= first && (i < 2 || (i + 2) % 64 < 4 || i == first || i == 199 || i == 190);
      boxes.Add(again ? -100.0F : 10.0F * static_cast<float>(i), 3, 4, 2, 1, 500.0F - float(i));
    }
    for (const int64_t wave : {0, 64}) {
      const Kept kept = CheckCase(boxes, Options(0.5F), wave);
      CHECK_EQ(kept[static_cast<size_t>(first)], static_cast<int64_t>(first));
      CHECK(kept.size() < 195);
    }
  }
}

TEST(OrderOfScores) {
  // Equal ones by row, -0 equal to 0, NaN and what is below the threshold nowhere.
  Boxes boxes;
  const float scores[] = {0.0F,   -0.0F,      0.0F,    1.0F,      kNan,  kInfinity, -1.0F,
                          1e-45F, -kInfinity, -1e-45F, 3e38F,     1.0F,  -kNan,     -3e38F,
                          -0.0F,  2.0F,       1.0F,    kInfinity, -1.0F, -2.0F,     1e-45F};
  for (size_t i = 0; i < std::size(scores); ++i) {
    boxes.Add(10.0F * static_cast<float>(i), 0, 4, 2, 0, scores[i]);
  }
  CHECK_EQ(CheckCase(boxes, Options(0.5F, 0, -kInfinity)).size(), std::size(scores) - 2);
  CHECK_EQ(CheckCase(boxes, Options(0.5F, 0, -1.0F)).size(), size_t{16});
  CHECK_EQ(CheckCase(boxes, Options(0.5F, 0, 0.0F)).size(), size_t{13});
  CHECK_EQ(CheckCase(boxes, Options(0.5F, 0, kInfinity)).size(), size_t{2});
  CHECK_EQ(CheckCase(boxes, Options(0.5F, 3, -0.0F)).size(), size_t{3});
}

TEST(FramesOfAnyNumber) {
  Boxes boxes;
  const int32_t frames[] = {2147483647, 0, -1, -2147483647 - 1, 1, -7, 2147483646};
  for (int i = 0; i < 140; ++i) {
    boxes.Add(static_cast<float>(i % 3), 0, 4, 2, 0, static_cast<float>(i % 5 + 1), frames[i % 7]);
  }
  for (const int64_t wave : {0, 64}) {
    CHECK(CheckCase(boxes, Options(0.5F), wave).size() >= 7);
    CHECK_EQ(CheckCase(boxes, Options(0.5F, 1), wave).size(), size_t{7});
  }
  for (size_t i = 0; i < boxes.frame.size(); ++i) boxes.frame[i] = static_cast<int32_t>(i);
  CHECK_EQ(CheckCase(boxes, Options(0.5F, 1), 64).size(), size_t{140});
}

TEST(BoxesThatTakeNoPartOrHaveNoArea) {
  Boxes boxes;
  for (size_t field = 0; field < 7; ++field) {
    for (const float value : {kNan, kInfinity, -kInfinity}) {
      boxes.Add(0, 0, 4, 2, 0, 0.9F);
      boxes.values[boxes.values.size() - 7 + field] = value;
    }
  }
  for (const float side : {0.0F, -0.0F, -4.0F}) {
    boxes.Add(0, 0, side, 2, 0, 0.8F);
    boxes.Add(0, 0, 4, side, 0, 0.8F);
  }
  boxes.Add(0, 0, 4, 2, 0, 0.7F);
  boxes.Add(0, 0, 4, 2, 0, 0.6F);
  CHECK_EQ(CheckCase(boxes, Options(0.0F)).size(), size_t{7});
  boxes = Boxes{};
  for (int i = 0; i < 70; ++i) boxes.Add(kNan, 0, 4, 2, 0, 0.9F);
  CHECK(CheckCase(boxes, Options(0.5F)).empty());
  CHECK(CheckCase(boxes, Options(0.5F), 64).empty());
}

TEST(ExtremeSizesAndPlaces) {
  Boxes boxes;
  float score = 1000;
  for (const float size : {1e-38F, 1e-22F, 1e-15F, 1e-3F, 1.0F, 1e7F, 1e19F, 3e38F}) {
    for (const float place : {0.0F, 0.9F, 1.1F, -2.1F}) {
      boxes.Add(place * size, place * size / 2, size, size, 1e6F * place, --score);
      boxes.Add(3e38F, place * size, size, size / 2, 1e38F, --score);
    }
  }
  for (const float threshold : {0.0F, 1e-6F, 0.3F}) CheckCase(boxes, Options(threshold));
}

TEST(BoxesThatOverlapAtTheirCorners) {
  // Some of them so tiny that in float32 their distance, squared, rounds to beyond their circles'.
  Boxes boxes;
  for (int32_t i = 0; i < 200; ++i) {
    const auto step = static_cast<float>(i);
    const float size = i < 100 ? 8e-23F + 1e-24F * step : 1.0F + step;
    const float place = (i < 100 ? 0.99F : 0.9999F) * size;
    boxes.Add(0, 0, size, size, 0, 0.9F, i);
    boxes.Add(place, place, size, size, 0, 0.8F, i);
  }
  CHECK_EQ(CheckCase(boxes, Options(0.0F)).size(), size_t{200});
}

TEST(ThresholdsAtTheirEnds) {
  Boxes boxes;
  boxes.Add(0, 0, 4, 2, 0, 0.9F);
  boxes.Add(4, 0, 4, 2, 0, 0.8F);  // touches
  boxes.Add(100, 0, 4, 2, 0, 0.7F);
  boxes.Add(0, 0, 4, 2, 0, 0.6F);
  boxes.Add(0, 0, 0, 2, 0, 0.5F);
  boxes.Add(0, 0, 4, 2, 0, 0.5F, 1);
  CHECK_EQ(CheckCase(boxes, Options(0.0F)).size(), size_t{5});
  CHECK_EQ(CheckCase(boxes, Options(-0.0F)).size(), size_t{5});
  CHECK_EQ(CheckCase(boxes, Options(1.0F)).size(), size_t{6});
  CHECK_EQ(CheckCase(boxes, Options(-0.5F)).size(), size_t{2});
  CHECK_EQ(CheckCase(boxes, Options(kInfinity)).size(), size_t{6});
}

TEST(WhatRotatedNmsRefuses) {
  const auto check = [](const NmsOptions& options) {
    const Boxes boxes = RandomBoxes(3, 1, 1);
    support::CheckSameError([&](rulebook::CpuContext& pool) { OnCpu(pool, boxes, options); },
                            [&](CudaContext& context) { OnDevice(context, boxes, options, 0); });
  };
  check(Options(kNan));
  check(Options(0.5F, 0, kNan));
  check(Options(0.5F, -1));
  const auto too_many = [](auto& context, auto nms) {
    nms(context, nullptr, nullptr, nullptr, rulebook::kMaxSites + 1, Options(0.5F),
        [](int64_t) { return static_cast<int64_t*>(nullptr); });
  };
  support::CheckSameError(
      [&](rulebook::CpuContext& pool) { too_many(pool, &rulebook::RotatedNms<kCpu>); },
      [&](CudaContext& context) { too_many(context, &rulebook::RotatedNms<kCuda>); });
}
