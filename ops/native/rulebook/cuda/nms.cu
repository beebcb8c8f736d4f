// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// Candidates are sorted by (frame, score descending, row) and kept wave by wave: those of a wave
// are compared with the boxes kept before it and with each other, which gives bits; one block then
// walks the wave in order. Memory is bounded by the wave, work by candidates x (kept + wave). One
// read-back, of how many are kept: the host queues waves for all rows, and those beyond the
// candidates are empty.
//
// Suppression is the CPU's to the IoU's last bits (see bev_box.h): the two differ only where an IoU
// is within rounding of the threshold.
#include "bev_box.h"
#include "device.h"
#include "nms_input.h"
#include "nms_waves.h"
#include "rulebook/nms.h"

namespace rulebook {
namespace cuda {
namespace {

using cpu::BevBox;

constexpr int kTile = static_cast<int>(kTileBoxes);
constexpr int kThreads = 256;
constexpr int kMaxTiles = static_cast<int>(kMaxWave / kTileBoxes);
constexpr int64_t kMaxSlices = 32;  // blocks that share a tile's comparisons with the kept
constexpr uint64_t kNoCandidate = ~uint64_t{0};

static_assert(kTile == 64, "a tile is a word of bits");

// In the order in which they are considered.
struct Candidates {
  const uint64_t* keys;  // [rows]; kNoCandidate from the first place that has none
  const int32_t* rows;   // [rows]
  const BevBox* boxes;   // [rows]; of candidates
};

struct Progress {
  int32_t candidates;
  int32_t kept;
  int32_t frame_begin;  // the boxes kept of the last frame considered are [frame_begin, kept)
};

struct Limits {
  double iou_threshold;
  int64_t max_per_frame;  // 0 = all
};

// (frame, score descending); equal for -0 and 0. Never kNoCandidate for a score that is a number.
__device__ inline uint64_t CandidateKey(int32_t frame, float score) {
  constexpr uint32_t kSign = 0x80000000U;
  const uint32_t bits = score == 0.0F ? 0 : __float_as_uint(score);
  const uint32_t ascending = (bits & kSign) != 0 ? ~bits : bits | kSign;
  return static_cast<uint64_t>(static_cast<uint32_t>(frame) ^ kSign) << 32U | ~ascending;
}

__device__ inline uint32_t FrameOf(uint64_t key) { return static_cast<uint32_t>(key >> 32U); }

__global__ void MakeKeys(const float* boxes, const float* scores, const int32_t* frame,
                         int64_t count, float score_threshold, uint64_t* keys, int32_t* rows,
                         Progress* progress) {
  const int64_t row = GlobalThread();
  if (row >= count) return;
  if (row == 0) *progress = Progress{0, 0, 0};
  const bool takes_part =
      cpu::TakesPart(boxes + row * cpu::kBoxFields, scores[row], score_threshold);
  keys[row] = takes_part ? CandidateKey(frame[row], scores[row]) : kNoCandidate;
  rows[row] = static_cast<int32_t>(row);
}

__global__ void MakeBoxes(const float* boxes, const uint64_t* keys, const int32_t* rows,
                          int64_t count, BevBox* bev_boxes, Progress* progress) {
  const int64_t place = GlobalThread();
  if (place >= count || keys[place] == kNoCandidate) return;
  bev_boxes[place] = cpu::MakeBevBox(boxes + rows[place] * cpu::kBoxFields);
  if (place == count - 1 || keys[place + 1] == kNoCandidate) {
    progress->candidates = static_cast<int32_t>(place + 1);
  }
}

// What decides most pairs, in float32: many GPUs have few units for float64.
struct Disc {
  float x;
  float y;
  float radius;
  uint32_t frame;
};

// Whether BevIou's own look at the circles says that they are apart; may be false where it does.
// The margins are beyond all rounding: relative, and absolute for what underflows.
__device__ inline bool SurelyApart(const Disc& a, const Disc& b) {
  const float dx = a.x - b.x;
  const float dy = a.y - b.y;
  const float reach = a.radius + b.radius;
  return dx * dx + dy * dy > reach * reach * 1.00001F + 1e-30F;
}

// Up to kTile boxes in shared memory.
struct Tile {
  BevBox* boxes;
  Disc* discs;
  int count;
};

// Of the calling thread's box, `place` among the candidates. All threads below tile.count call.
__device__ inline void LoadBox(const Candidates& candidates, int64_t place, const Tile& tile) {
  const BevBox box = candidates.boxes[place];
  tile.boxes[threadIdx.x] = box;
  tile.discs[threadIdx.x] = {static_cast<float>(box.x), static_cast<float>(box.y),
                             static_cast<float>(box.radius), FrameOf(candidates.keys[place])};
}

struct PairList {
  uint16_t* pairs;  // [kTile * kTile] of row * kTile + column, in any order
  int32_t* count;   // 0, and is so again afterwards
};

// Calls found(row, column) for each pair of boxes of one frame whose IoU is above the threshold;
// with `above`, only for columns above the row. Pairs worth the float64 are collected first, so
// that no lane waits for another's. All threads of the block call, after a barrier, which also
// parts one call from the next.
template <typename Found>
__device__ inline void ComparePairs(const Tile& rows, const Tile& columns, bool above,
                                    uint64_t skipped_columns, double threshold,
                                    const PairList& list, const Found& found) {
  for (int pair = static_cast<int>(threadIdx.x); pair < kTile * kTile; pair += kThreads) {
    const int row = pair / kTile;
    const int column = pair % kTile;
    if (row >= rows.count || column >= columns.count || (above && column <= row)) continue;
    if ((skipped_columns >> static_cast<unsigned>(column) & 1U) != 0) continue;
    const Disc a = rows.discs[row];
    const Disc b = columns.discs[column];
    // Below a threshold that is negative even boxes apart suppress each other.
    if (a.frame != b.frame || (threshold >= 0.0 && SurelyApart(a, b))) continue;
    list.pairs[AtomicAdd(list.count, 1)] = static_cast<uint16_t>(pair);
  }
  __syncthreads();
  const int count = *list.count;
  for (int i = static_cast<int>(threadIdx.x); i < count; i += kThreads) {
    const int row = list.pairs[i] / kTile;
    const int column = list.pairs[i] % kTile;
    if (cpu::BevIou(rows.boxes[row], columns.boxes[column]) > threshold) found(row, column);
  }
  __syncthreads();
  if (threadIdx.x == 0) *list.count = 0;
}

__device__ inline uint64_t Bit(int index) { return uint64_t{1} << static_cast<unsigned>(index); }

__device__ inline int TileCount(int64_t begin, int64_t end) {
  return static_cast<int>(end - begin < kTile ? end - begin : kTile);
}

// masks[(i - begin) * gridDim.x + tile] = which of the candidates of that tile of the wave fall to
// candidate i, for tiles from its own on. One block per pair of tiles; those beyond the candidates
// are not written.
__global__ void __launch_bounds__(kThreads)
    CompareInWave(Candidates candidates, int64_t begin, double threshold, const Progress* progress,
                  uint64_t* masks) {
  const int64_t first_row = begin + static_cast<int64_t>(blockIdx.y) * kTile;
  const int64_t first_column = begin + static_cast<int64_t>(blockIdx.x) * kTile;
  const int64_t end = progress->candidates;
  if (first_column < first_row || first_column >= end) return;
  VOXGATE_SHARED(BevBox, row_boxes, [kTile]);
  VOXGATE_SHARED(BevBox, column_boxes, [kTile]);
  VOXGATE_SHARED(Disc, row_discs, [kTile]);
  VOXGATE_SHARED(Disc, column_discs, [kTile]);
  VOXGATE_SHARED(uint64_t, bits, [kTile]);
  VOXGATE_SHARED(uint16_t, pairs, [kTile * kTile]);
  VOXGATE_SHARED(int32_t, pair_count, [1]);
  const Tile rows{row_boxes, row_discs, TileCount(first_row, end)};
  const Tile columns{column_boxes, column_discs, TileCount(first_column, end)};
  const int i = static_cast<int>(threadIdx.x);
  if (i == 0) *pair_count = 0;
  if (i < kTile) bits[i] = 0;
  if (i < rows.count) LoadBox(candidates, first_row + i, rows);
  if (i < columns.count) LoadBox(candidates, first_column + i, columns);
  __syncthreads();
  ComparePairs(rows, columns, first_row == first_column, 0, threshold, PairList{pairs, pair_count},
               [&](int row, int column) { AtomicOr(&bits[row], Bit(column)); });
  if (i < rows.count) masks[(first_row - begin + i) * gridDim.x + blockIdx.x] = bits[i];
}

// removed[tile] gets the bits of those candidates of the wave that fall to boxes kept before it.
// These can only be of the frame that was last considered. Blocks along y share the kept.
__global__ void __launch_bounds__(kThreads)
    CompareWithKept(Candidates candidates, int64_t begin, Limits limits, const int32_t* kept_places,
                    const Progress* progress, uint64_t* removed) {
  const int64_t first_column = begin + static_cast<int64_t>(blockIdx.x) * kTile;
  const int64_t end = progress->candidates;
  if (first_column >= end) return;
  // Frames are in order: where the tile's first is another, all are.
  if (FrameOf(candidates.keys[first_column]) != FrameOf(candidates.keys[begin - 1])) return;
  const int64_t kept = progress->kept;
  const int64_t frame_begin = progress->frame_begin;
  if (limits.max_per_frame > 0 && kept - frame_begin >= limits.max_per_frame) return;
  VOXGATE_SHARED(BevBox, row_boxes, [kTile]);
  VOXGATE_SHARED(BevBox, column_boxes, [kTile]);
  VOXGATE_SHARED(Disc, row_discs, [kTile]);
  VOXGATE_SHARED(Disc, column_discs, [kTile]);
  VOXGATE_SHARED(uint64_t, bits, [1]);
  VOXGATE_SHARED(uint16_t, pairs, [kTile * kTile]);
  VOXGATE_SHARED(int32_t, pair_count, [1]);
  const Tile columns{column_boxes, column_discs, TileCount(first_column, end)};
  const int i = static_cast<int>(threadIdx.x);
  if (i == 0) *pair_count = 0;
  if (i == 0) *bits = 0;
  if (i < columns.count) LoadBox(candidates, first_column + i, columns);
  for (int64_t first_row = frame_begin + static_cast<int64_t>(blockIdx.y) * kTile; first_row < kept;
       first_row += static_cast<int64_t>(gridDim.y) * kTile) {
    const Tile rows{row_boxes, row_discs, TileCount(first_row, kept)};
    if (i < rows.count) LoadBox(candidates, kept_places[first_row + i], rows);
    __syncthreads();
    ComparePairs(rows, columns, false, *bits, limits.iou_threshold, PairList{pairs, pair_count},
                 [&](int, int column) { AtomicOr(bits, Bit(column)); });
  }
  if (i == 0 && *bits != 0) AtomicOr(&removed[blockIdx.x], *bits);
}

// One tile's step of the walk.
struct Step {
  uint64_t starts;  // candidates that are the first of their frame
  uint64_t alive;   // those that no kept box suppresses
  uint64_t kept;    // the result
  Progress progress;
};

__device__ inline uint64_t Lowest(uint64_t bits) { return bits & (~bits + 1); }

// suppresses[i]: which of the tile fall to i. A frame's first candidate falls to none.
__device__ inline void KeepInTile(const uint64_t* suppresses, int64_t max_per_frame, Step* step) {
  uint64_t alive = step->alive;
  uint64_t kept = 0;
  int32_t total = step->progress.kept;
  int32_t frame_begin = step->progress.frame_begin;
  while (alive != 0) {
    const uint64_t candidate = Lowest(alive);
    if ((step->starts & candidate) != 0) frame_begin = total;
    if (max_per_frame > 0 && total - frame_begin >= max_per_frame) {
      // On to the next frame, if there is one.
      const uint64_t later = step->starts & ~(candidate | (candidate - 1));
      alive &= later == 0 ? 0 : ~(Lowest(later) - 1);
      continue;
    }
    kept |= candidate;
    ++total;
    alive &= ~(candidate | suppresses[__ffsll(static_cast<int64_t>(candidate)) - 1]);
  }
  step->kept = kept;
  step->progress.kept = total;
  step->progress.frame_begin = frame_begin;
}

// Walks the wave from `begin` in order; one block. masks: CompareInWave's, `tiles` wide. removed
// [tiles]: CompareWithKept's, zero again afterwards; null where there is nothing before the wave.
__global__ void __launch_bounds__(kThreads)
    KeepInWave(Candidates candidates, int64_t begin, int tiles, const uint64_t* masks,
               int64_t max_per_frame, uint64_t* removed, int32_t* kept_places, int64_t* kept_rows,
               Progress* progress) {
  constexpr int kGroups = kThreads / kTile;
  constexpr int kRowsOfGroup = kTile / kGroups;
  const int64_t end = progress->candidates;
  if (begin >= end) return;
  VOXGATE_SHARED(uint64_t, fallen, [kMaxTiles]);
  VOXGATE_SHARED(uint64_t, diagonal, [kTile]);
  VOXGATE_SHARED(uint32_t, starts, [kTile / kWarpSize]);
  VOXGATE_SHARED(Step, step, [1]);
  const int i = static_cast<int>(threadIdx.x);
  if (i < tiles) {
    fallen[i] = removed != nullptr ? removed[i] : 0;
    if (removed != nullptr) removed[i] = 0;
  }
  if (i == 0) step->progress = *progress;
  int32_t kept_before = progress->kept;
  for (int tile = 0; tile < tiles && begin + tile * kTile < end; ++tile) {
    const int64_t first = begin + static_cast<int64_t>(tile) * kTile;
    const int count = TileCount(first, end);
    const uint64_t* tile_masks = masks + static_cast<int64_t>(tile) * kTile * tiles;
    if (i < kTile) {
      diagonal[i] = i < count ? tile_masks[static_cast<int64_t>(i) * tiles + tile] : 0;
      const int64_t place = first + i;
      const bool is_start = i < count && (place == 0 || FrameOf(candidates.keys[place]) !=
                                                            FrameOf(candidates.keys[place - 1]));
      const unsigned ballot = __ballot_sync(0xFFFFFFFFU, is_start ? 1 : 0);
      if (i % kWarpSize == 0) starts[i / kWarpSize] = ballot;
    }
    __syncthreads();
    if (i == 0) {
      step->starts = static_cast<uint64_t>(starts[1]) << 32U | starts[0];
      step->alive = (Bit(count - 1) | (Bit(count - 1) - 1)) & ~fallen[tile];
      KeepInTile(diagonal, max_per_frame, step);
    }
    __syncthreads();
    const uint64_t kept = step->kept;
    if (i < kTile && (kept & Bit(i)) != 0) {
      const int64_t number = kept_before + __popcll(kept & (Bit(i) - 1));
      kept_places[number] = static_cast<int32_t>(first + i);
      kept_rows[number] = candidates.rows[first + i];
    }
    kept_before += __popcll(kept);
    const int other = tile + 1 + i % kTile;
    if (other < tiles && begin + static_cast<int64_t>(other) * kTile < end) {
      uint64_t falls = 0;
#pragma unroll
      for (int j = 0; j < kRowsOfGroup; ++j) {
        const int row = i / kTile * kRowsOfGroup + j;
        if ((kept & Bit(row)) != 0) falls |= tile_masks[static_cast<int64_t>(row) * tiles + other];
      }
      if (falls != 0) AtomicOr(&fallen[other], falls);
    }
  }
  __syncthreads();
  if (i == 0) *progress = step->progress;
}

// Queues the walk over all candidates, wave by wave.
void KeepGreedily(CudaContext& context, const Candidates& candidates, int64_t count,
                  const NmsOptions& options, int64_t wave, int64_t* kept_rows, Progress* progress) {
  const Limits limits{double{options.iou_threshold}, options.max_per_frame};
  const int64_t widest = CeilDiv<int64_t>(std::min(count, wave), kTile);
  const bool one_wave = count <= wave;
  const Scratch<uint64_t> masks(context, widest * kTile * widest);
  const Scratch<uint64_t> removed(context, one_wave ? 0 : widest);
  const Scratch<int32_t> kept_places(context, count);
  FillBytes(context, removed.get(), 0, one_wave ? 0 : widest);
  for (int64_t begin = 0; begin < count; begin += wave) {
    LaunchShape shape;
    shape.blocks_x = CeilDiv<int64_t>(std::min(wave, count - begin), kTile);
    shape.threads = kThreads;
    const auto tiles = static_cast<int>(shape.blocks_x);
    if (begin > 0) {
      shape.blocks_y = std::min(kMaxSlices, CeilDiv<int64_t>(begin, kTile));
      Launch(context, shape, &CompareWithKept, candidates, begin, limits, kept_places.get(),
             progress, removed.get());
    }
    shape.blocks_y = shape.blocks_x;
    Launch(context, shape, &CompareInWave, candidates, begin, limits.iou_threshold, progress,
           masks.get());
    shape.blocks_x = shape.blocks_y = 1;
    Launch(context, shape, &KeepInWave, candidates, begin, tiles, masks.get(), limits.max_per_frame,
           removed.get(), kept_places.get(), kept_rows, progress);
  }
}

}  // namespace

void RotatedNmsInWaves(CudaContext& context, const float* boxes, const float* scores,
                       const int32_t* frame, int64_t rows, const NmsOptions& options, int64_t wave,
                       FunctionRef<int64_t*(int64_t)> allocate) {
  cpu::CheckNms(rows, options);
  if (rows == 0) {
    allocate(0);
    return;
  }
  const Scratch<uint64_t> sorted_keys(context, rows);
  const Scratch<int32_t> sorted_rows(context, rows);
  const Scratch<BevBox> bev_boxes(context, rows);
  const Scratch<int64_t> kept_rows(context, rows);
  const Scratch<Progress> progress(context, 1);
  {
    const Scratch<uint64_t> keys(context, rows);
    const Scratch<int32_t> numbers(context, rows);
    Launch(context, OneThreadEach(rows), &MakeKeys, boxes, scores, frame, rows,
           options.score_threshold, keys.get(), numbers.get(), progress.get());
    SortPairs(context, keys.get(), sorted_keys.get(), numbers.get(), sorted_rows.get(), rows);
  }
  Launch(context, OneThreadEach(rows), &MakeBoxes, boxes, sorted_keys.get(), sorted_rows.get(),
         rows, bev_boxes.get(), progress.get());
  KeepGreedily(context, {sorted_keys.get(), sorted_rows.get(), bev_boxes.get()}, rows, options,
               wave, kept_rows.get(), progress.get());
  const int64_t kept = ReadBack(context, progress.get()).kept;
  Copy(context, allocate(kept), kept_rows.get(), kept);
}

}  // namespace cuda

template <>
void RotatedNms<Device::kCuda>(CudaContext& context, const float* boxes, const float* scores,
                               const int32_t* frame, int64_t rows, const NmsOptions& options,
                               FunctionRef<int64_t*(int64_t)> allocate) {
  cuda::RotatedNmsInWaves(context, boxes, scores, frame, rows, options, cuda::kMaxWave, allocate);
}

}  // namespace rulebook
