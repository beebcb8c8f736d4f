// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// Split convolution on the AMX tile unit. While it multiplies, the vector units gather and split
// the rows of the next block of 32 pairs and add the sums of the block before. Every step of four
// tile multiplications carries its share of both: a block's worth in one piece would not fit into
// what the processor looks ahead, and the tile unit would stand still.
//
// A row of a tile is multiplied for itself, so a row's bits do not depend on the rows beside it.
#include "split_convolution.h"

#ifdef __AMX_BF16__

#include <immintrin.h>

#define VOXGATE_INLINE inline __attribute__((always_inline))

namespace rulebook::cpu {
namespace {

constexpr int64_t kTileRows = 16;
constexpr int64_t kBlockRows = 32;                        // pairs multiplied together: two tiles
constexpr int64_t kAhead = kSplitPairSlack - kBlockRows;  // rows fetched before they are gathered
constexpr int64_t kLine = 64;                             // bytes of a row of a tile
constexpr int64_t kTileBytes = kTileRows * kLine;         // of one tile
constexpr int64_t kStepBytes = 2 * kTileBytes;  // of two, which is what one step multiplies
constexpr int64_t kGroupBytes = kSplitParts * kStepBytes;  // of all parts of 32 channels
constexpr int64_t kSumBytes = kBlockRows * kSplitChannels * 4;
constexpr int kSteps = 6;

// The three parts of 32 floats, as the pairs (j, j + 16).
struct Split {
  __m512i part[kSplitParts];
};

// The upper halves of the floats.
VOXGATE_INLINE __m512i UpperHalves(__m512i low, __m512i high) {
  const __m512i down = _mm512_set4_epi32(0x0F0E0F0E, 0x0B0A0B0A, 0x07060706, 0x03020302);
  return _mm512_mask_shuffle_epi8(high, 0x3333333333333333, low, down);
}

// What two parts leave of a float has eight bits at most, so the third one holds all of it.
// Rounding (to nearest, ties away from zero) makes the products that are left out smaller; cutting
// off takes less time. It is enough that one factor is rounded.
enum class Cut { kRounded, kShort };

template <Cut kCut>
VOXGATE_INLINE Split SplitInThree(__m512 low, __m512 high) {
  const __m512i upper = _mm512_set1_epi32(static_cast<int>(0xFFFF0000));
  const __m512i half = _mm512_set1_epi32(kCut == Cut::kRounded ? 0x8000 : 0);
  Split split;
  for (int64_t part = 0; part < kSplitParts - 1; ++part) {
    const __m512i low_bits = _mm512_add_epi32(_mm512_castps_si512(low), half);
    const __m512i high_bits = _mm512_add_epi32(_mm512_castps_si512(high), half);
    split.part[part] = UpperHalves(low_bits, high_bits);
    low = _mm512_sub_ps(low, _mm512_castsi512_ps(_mm512_and_si512(low_bits, upper)));
    high = _mm512_sub_ps(high, _mm512_castsi512_ps(_mm512_and_si512(high_bits, upper)));
  }
  split.part[kSplitParts - 1] = UpperHalves(_mm512_castps_si512(low), _mm512_castps_si512(high));
  return split;
}

// Least and greatest magnitude, zeros apart; the bits of magnitudes order as the magnitudes do,
// infinities and NaN above all.
class Magnitudes {
 public:
  VOXGATE_INLINE void Add(__m512 x) {
    const __m512i bits = _mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(0x7FFFFFFF));
    least_less_1_ = _mm512_min_epu32(least_less_1_, _mm512_sub_epi32(bits, _mm512_set1_epi32(1)));
    most_ = _mm512_max_epu32(most_, bits);
  }

  // Whether all that is not zero lies in [least, most].
  VOXGATE_INLINE bool Within(float least, float most) const {
    const __m512i least_bits = _mm512_castps_si512(_mm512_set1_ps(least));
    const __m512i most_bits = _mm512_castps_si512(_mm512_set1_ps(most));
    const __m512i least_less_1 = _mm512_sub_epi32(least_bits, _mm512_set1_epi32(1));
    return _mm512_cmplt_epu32_mask(least_less_1_, least_less_1) == 0 &&
           _mm512_cmpgt_epu32_mask(most_, most_bits) == 0;
  }

 private:
  __m512i least_less_1_ = _mm512_set1_epi32(-1);  // unsigned: a zero's is the greatest number
  __m512i most_ = _mm512_setzero_si512();
};

bool PackWeight(const float* weight, int64_t in_channels, int64_t out_channels, uint16_t* packed) {
  Magnitudes magnitudes;
  for (int64_t column = 0; column < out_channels; column += kSplitChannels) {
    for (int64_t c = 0; c < in_channels; ++c) {
      const float* from = weight + c * out_channels + column;
      const __m512 low = _mm512_loadu_ps(from), high = _mm512_loadu_ps(from + 16);
      magnitudes.Add(low);
      magnitudes.Add(high);
      const Split split = SplitInThree<Cut::kRounded>(low, high);
      const int64_t group = column / kSplitChannels * (in_channels / kSplitChannels) + c / 32;
      const int64_t row = c % kTileRows, half = c % kSplitChannels / kTileRows;
      for (int64_t part = 0; part < kSplitParts; ++part) {
        uint16_t terms[kSplitChannels];
        _mm512_storeu_si512(terms, split.part[part]);
        uint16_t* to = packed + (group * kGroupBytes + part * kStepBytes + row * kLine) / 2 + half;
        for (int64_t j = 0; j < kTileRows; ++j) {
          to[2 * j] = terms[2 * j];
          to[kTileBytes / 2 + 2 * j] = terms[2 * j + 1];
        }
      }
    }
  }
  return magnitudes.Within(kSplitLeastWeight, kSplitMostWeight);
}

bool AllSound(const float* sums, int64_t count) {
  Magnitudes magnitudes;
  for (int64_t j = 0; j < count; j += 16) magnitudes.Add(_mm512_loadu_ps(sums + j));
  constexpr float kMostFinite = 0x1.FFFFFEp127F;
  return magnitudes.Within(kSplitLeastSum, kMostFinite);
}

struct alignas(64) TileConfig {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

void Begin() {
  static constexpr TileConfig config;
  _tile_loadconfig(&config);
}

void End() { _tile_release(); }

// Rows to gather and split: a tile is loaded from rows that follow each other.
struct Gathering {
  const float* features;  // of the 32 channels to gather
  int64_t channels;       // of a row
  const int32_t* in_row;
  char* to;  // [3][32][64]

  VOXGATE_INLINE void Row(int64_t row) const {
    const float* soon = features + in_row[row + kAhead] * channels;
    _mm_prefetch(soon, _MM_HINT_T0);
    _mm_prefetch(soon + 16, _MM_HINT_T0);
    const float* from = features + in_row[row] * channels;
    const Split split =
        SplitInThree<Cut::kShort>(_mm512_loadu_ps(from), _mm512_loadu_ps(from + 16));
    for (int64_t part = 0; part < kSplitParts; ++part) {
      _mm512_store_si512(to + part * kStepBytes + row * kLine, split.part[part]);
    }
  }
};

// Sums of one block on their way to their rows.
struct Adding {
  const float* block;  // [32, 32]
  const int32_t* out_row;
  float* sums;
  int64_t stride;

  VOXGATE_INLINE void Row(int64_t row) const {
    float* y = sums + out_row[row] * stride;
    const float* from = block + row * kSplitChannels;
    for (int64_t j = 0; j < kSplitChannels; j += 16) {
      _mm512_storeu_ps(y + j, _mm512_add_ps(_mm512_loadu_ps(y + j), _mm512_load_ps(from + j)));
    }
  }
};

// Fetches one line of what will be written next.
VOXGATE_INLINE void FetchLine(SplitRun& run) {
  _mm_prefetch(run.fetch, _MM_HINT_T0);
  run.fetch += run.fetch_end - run.fetch > kLine ? kLine : 0;
}

// Step kStep of six: its share of kGather and kAdd rows.
template <int kStep, int kGather, int kAdd>
VOXGATE_INLINE void Meanwhile(const Gathering& gathering, const Adding& adding, SplitRun& run) {
#pragma GCC unroll 32
  for (int row = kGather * kStep / kSteps; row < kGather * (kStep + 1) / kSteps; ++row) {
    gathering.Row(row);
  }
#pragma GCC unroll 32
  for (int row = kAdd * kStep / kSteps; row < kAdd * (kStep + 1) / kSteps; ++row) adding.Row(row);
  FetchLine(run);
}

VOXGATE_INLINE void LoadFeatures(const char* from) {
  _tile_loadd(4, from, kLine);
  _tile_loadd(5, from + kTileBytes, kLine);
}

VOXGATE_INLINE void LoadWeights(const char* from) {
  _tile_loadd(6, from, kLine);
  _tile_loadd(7, from + kTileBytes, kLine);
}

VOXGATE_INLINE void Multiply() {
  _tile_dpbf16ps(0, 4, 6);
  _tile_dpbf16ps(1, 4, 7);
  _tile_dpbf16ps(2, 5, 6);
  _tile_dpbf16ps(3, 5, 7);
}

// Tiles 0 … 3 += the six products of 32 pairs, 32 channels and 32 columns; each step changes one
// operand.
template <int kGather, int kAdd>
void MultiplyGroup(const char* features, const char* weight, const Gathering& gathering,
                   const Adding& adding, SplitRun& run) {
  constexpr int64_t h = 0, m = kStepBytes, l = 2 * kStepBytes;
  LoadFeatures(features + l);
  LoadWeights(weight + h);
  Multiply();
  Meanwhile<0, kGather, kAdd>(gathering, adding, run);
  LoadFeatures(features + h);
  Multiply();
  Meanwhile<1, kGather, kAdd>(gathering, adding, run);
  LoadWeights(weight + l);
  Multiply();
  Meanwhile<2, kGather, kAdd>(gathering, adding, run);
  LoadWeights(weight + m);
  Multiply();
  Meanwhile<3, kGather, kAdd>(gathering, adding, run);
  LoadFeatures(features + m);
  Multiply();
  Meanwhile<4, kGather, kAdd>(gathering, adding, run);
  LoadWeights(weight + h);
  Multiply();
  Meanwhile<5, kGather, kAdd>(gathering, adding, run);
}

using Group = void (*)(const char*, const char*, const Gathering&, const Adding&, SplitRun&);

// [rows gathered][rows added]: none, 8, 16, 32.
template <int kGather>
constexpr Group kGathering[4] = {MultiplyGroup<kGather, 0>, MultiplyGroup<kGather, 8>,
                                 MultiplyGroup<kGather, 16>, MultiplyGroup<kGather, 32>};
constexpr const Group* kGroups[4] = {kGathering<0>, kGathering<8>, kGathering<16>, kGathering<32>};

// 32 rows over so many turns: the index into kGroups, and the rows of one turn.
constexpr int ShareOver(int64_t turns) { return turns == 1 ? 3 : turns < 4 ? 2 : 1; }
constexpr int64_t RowsOf(int share) { return kBlockRows >> (3 - share); }

constexpr int64_t WholeBlocks(int64_t rows) {
  return (rows + kBlockRows - 1) / kBlockRows * kBlockRows;
}

// Fills the last block, and what is fetched after it, up with a row that is there. What comes of it
// is not added.
void FillUp(const TilePairs& pairs) {
  const int64_t end = WholeBlocks(pairs.count) + kAhead;
  for (int64_t p = pairs.count; p < end; ++p) pairs.in_row[p] = pairs.in_row[0];
}

// Has the first rows of `next` fetched after the last block of `pairs`.
void Follow(const TilePairs& pairs, const TilePairs& next) {
  int32_t* end = pairs.in_row + WholeBlocks(pairs.count);
  for (int64_t row = 0; row < kAhead; ++row) end[row] = next.in_row[row];
}

class Accumulation {
 public:
  Accumulation(SplitRun& run, const SplitOffset& offset, const SplitOffset* next)
      : run_(run),
        pairs_(offset.pairs),
        weight_(reinterpret_cast<const char*>(offset.weight)),
        next_(next),
        groups_(run.in_channels / kSplitChannels),
        sets_(run.out_channels / kSplitChannels) {}

  void Run() {
    if (run_.gathered_half < 0) {
      FillUp(pairs_);
      run_.gathered_half = 0;
      GatherNow();
    }
    if (next_ != nullptr) {
      FillUp(next_->pairs);
      Follow(pairs_, next_->pairs);
    }
    for (int64_t pair = 0; pair < pairs_.count; pair += kBlockRows) {
      const int64_t next = pair + kBlockRows;
      if (next < pairs_.count) {
        RunBlock(pair, pairs_.in_row + next);
      } else {
        RunBlock(pair, next_ != nullptr ? next_->pairs.in_row : nullptr);
      }
    }
    if (next_ == nullptr) AddLate();
  }

 private:
  // Of a block whose rows of features are `in_row`.
  Gathering GatheringOf(const int32_t* in_row, int half, int64_t group, int64_t row) const {
    return {run_.features + group * kSplitChannels, run_.in_channels, in_row + row,
            GatheredHalf(half) + group * kGroupBytes + row * kLine};
  }

  // Both are there twice: one half is filled while the other is read.
  char* GatheredHalf(int half) const {
    return run_.workspace + 2 * kSumBytes + half * groups_ * kGroupBytes;
  }
  float* SumsHalf(int half) const {
    return reinterpret_cast<float*>(run_.workspace + half * kSumBytes);
  }

  void GatherNow() {
    for (int64_t group = 0; group < groups_; ++group) {
      const Gathering gathering = GatheringOf(pairs_.in_row, run_.gathered_half, group, 0);
      for (int64_t row = 0; row < kBlockRows; ++row) gathering.Row(row);
    }
  }

  // What is still to be added, from this row on.
  Adding LateFrom(int64_t row) const {
    return {SumsHalf(run_.sums_half ^ 1) + row * kSplitChannels, run_.late_out_row + row,
            run_.sums + run_.late_column, run_.out_channels};
  }

  void AddLate() {
    const Adding adding = LateFrom(0);
    for (int64_t row = 0; row < run_.late_rows; ++row) adding.Row(row);
    run_.late_rows = 0;
  }

  // Multiplies the block that is gathered, and gathers the next one, which may be null: there is
  // none.
  void RunBlock(int64_t pair, const int32_t* next_in_row) {
    const char* features = GatheredHalf(run_.gathered_half);
    const int32_t* source = next_in_row != nullptr ? next_in_row : pairs_.in_row;
    const int next_half = run_.gathered_half ^ 1;
    const int gathers = ShareOver(sets_), adds = ShareOver(groups_);
    for (int64_t set = 0; set < sets_; ++set) {
      if (run_.late_rows < kBlockRows) AddLate();
      const int64_t gathered = set * RowsOf(gathers);
      const int gather = next_in_row != nullptr && gathered < kBlockRows ? gathers : 0;
      _tile_zero(0);
      _tile_zero(1);
      _tile_zero(2);
      _tile_zero(3);
      for (int64_t group = 0; group < groups_; ++group) {
        const int64_t added = group * RowsOf(adds);
        const int add = run_.late_rows == kBlockRows && added < kBlockRows ? adds : 0;
        kGroups[gather][add](
            features + group * kGroupBytes, weight_ + (set * groups_ + group) * kGroupBytes,
            GatheringOf(source, next_half, group, gathered), LateFrom(added), run_);
      }
      StoreSums(set, pair);
    }
    run_.gathered_half = next_half;
  }

  void StoreSums(int64_t set, int64_t pair) {
    constexpr int64_t kRowBytes = kSplitChannels * 4;
    float* sums = SumsHalf(run_.sums_half);
    run_.sums_half ^= 1;
    _tile_stored(0, sums, kRowBytes);
    _tile_stored(1, sums + 16, kRowBytes);
    _tile_stored(2, sums + kTileRows * kSplitChannels, kRowBytes);
    _tile_stored(3, sums + kTileRows * kSplitChannels + 16, kRowBytes);
    const int64_t left = pairs_.count - pair;
    run_.late_rows = left < kBlockRows ? left : kBlockRows;
    run_.late_column = set * kSplitChannels;
    // The list may be another offset's by the time it is read.
    for (int64_t j = 0; j < kBlockRows; j += 16) {
      _mm512_storeu_si512(run_.late_out_row + j, _mm512_loadu_si512(pairs_.out_row + pair + j));
    }
  }

  SplitRun& run_;
  const TilePairs pairs_;
  const char* const weight_;
  const SplitOffset* const next_;
  const int64_t groups_;  // of 32 input channels
  const int64_t sets_;    // of 32 output channels
};

void Accumulate(SplitRun& run, const SplitOffset& offset, const SplitOffset* next) {
  Accumulation(run, offset, next).Run();
}

}  // namespace

const SplitKernels* AmxSplitKernels() {
  static constexpr SplitKernels kernels = {PackWeight, Begin, End, Accumulate, AllSound};
  return &kernels;
}

}  // namespace rulebook::cpu

#else  // a compiler that knows no AMX, or another processor family

namespace rulebook::cpu {
const SplitKernels* AmxSplitKernels() { return nullptr; }
}  // namespace rulebook::cpu

#endif
