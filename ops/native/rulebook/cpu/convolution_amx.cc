// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// Split convolution on the AMX tile unit. While it multiplies, the vector units gather the rows of
// the next block of 32 pairs and add the sums of the block before. Every step of four tile
// multiplications carries its share of both: a block's worth in one piece would not fit into what
// the processor looks ahead, and the tile unit would stand still.
//
// A row of a tile is multiplied for itself, so a row's bits do not depend on the rows beside it.
#include "split_convolution.h"

#if defined(__AMX_BF16__) && defined(__AVX512BF16__)

#include <immintrin.h>

#define VOXGATE_INLINE inline __attribute__((always_inline))

namespace rulebook::cpu {
namespace {

constexpr int64_t kTileRows = 16;
constexpr int64_t kBlockRows = 32;                 // pairs multiplied together: two tiles
constexpr int64_t kLine = 64;                      // bytes of a row of a tile
constexpr int64_t kTileBytes = kTileRows * kLine;  // of one tile
constexpr int64_t kStepBytes = 2 * kTileBytes;     // of two, which is what one step multiplies
constexpr int64_t kGroupBytes = kSplitParts * kStepBytes;  // of all parts of 32 channels
constexpr int64_t kSumBytes = kBlockRows * kSplitChannels * 4;
constexpr int kSteps = 6;

// The three parts of 32 floats.
struct Split {
  __m512i part[kSplitParts];
};

// Rounds to nearest even; lanes 0 … 15 of the result are `low`'s.
VOXGATE_INLINE __m512i ToBf16(__m512 low, __m512 high) {
  return reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(high, low));
}

// Lanes 0 … 15 and 16 … 31 back as floats.
VOXGATE_INLINE __m512 LowFromBf16(__m512i x) {
  return _mm512_castsi512_ps(
      _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm512_castsi512_si256(x)), 16));
}
VOXGATE_INLINE __m512 HighFromBf16(__m512i x) {
  return _mm512_castsi512_ps(
      _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64(x, 1)), 16));
}

VOXGATE_INLINE Split SplitInThree(__m512 low, __m512 high) {
  Split split;
  for (__m512i& part : split.part) {
    part = ToBf16(low, high);
    low = _mm512_sub_ps(low, LowFromBf16(part));
    high = _mm512_sub_ps(high, HighFromBf16(part));
  }
  return split;
}

// The bits of magnitudes order as the magnitudes do, infinities and NaN above all.
VOXGATE_INLINE __m512i Magnitude(__m512 x) {
  return _mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(0x7FFFFFFF));
}

// Of a row or weight whose lanes have these largest magnitudes.
VOXGATE_INLINE bool IsExtreme(__m512i largest) {
  const __m512i least = _mm512_castps_si512(_mm512_set1_ps(kSplitLeast));
  const __m512i most = _mm512_castps_si512(_mm512_set1_ps(kSplitMost));
  const bool too_large = _mm512_cmpgt_epu32_mask(largest, most) != 0;
  const bool large_enough = _mm512_cmpge_epu32_mask(largest, least) != 0;
  const bool zero = _mm512_test_epi32_mask(largest, largest) == 0;
  return too_large || !(large_enough || zero);
}

int64_t SplitRows(const float* features, int64_t rows, int64_t in_channels, uint16_t* parts,
                  uint8_t* extreme) {
  int64_t extreme_rows = 0;
  for (int64_t row = 0; row < rows; ++row) {
    __m512i largest = _mm512_setzero_si512();
    for (int64_t c = 0; c < in_channels; c += kSplitChannels, features += kSplitChannels) {
      const __m512 low = _mm512_loadu_ps(features), high = _mm512_loadu_ps(features + 16);
      largest = _mm512_max_epu32(largest, _mm512_max_epu32(Magnitude(low), Magnitude(high)));
      for (const __m512i part : SplitInThree(low, high).part) {
        _mm512_store_si512(parts, part);
        parts += kSplitChannels;
      }
    }
    extreme[row] = IsExtreme(largest) ? 1 : 0;
    extreme_rows += extreme[row];
  }
  return extreme_rows;
}

bool PackWeight(const float* weight, int64_t in_channels, int64_t out_channels, uint16_t* packed) {
  __m512i largest = _mm512_setzero_si512();
  for (int64_t column = 0; column < out_channels; column += kSplitChannels) {
    for (int64_t c = 0; c < in_channels; ++c) {
      const float* from = weight + c * out_channels + column;
      const __m512 low = _mm512_loadu_ps(from), high = _mm512_loadu_ps(from + 16);
      largest = _mm512_max_epu32(largest, _mm512_max_epu32(Magnitude(low), Magnitude(high)));
      const Split split = SplitInThree(low, high);
      const int64_t group = column / kSplitChannels * (in_channels / kSplitChannels) + c / 32;
      for (int64_t part = 0; part < kSplitParts; ++part) {
        uint16_t terms[kSplitChannels];
        _mm512_storeu_si512(terms, split.part[part]);
        uint16_t* to =
            packed + (group * kGroupBytes + part * kStepBytes) / 2 + c % 32 / 2 * 32 + c % 2;
        for (int64_t j = 0; j < kSplitChannels; ++j) {
          to[j / kTileRows * (kTileBytes / 2) + j % kTileRows * 2] = terms[j];
        }
      }
    }
  }
  return !IsExtreme(largest);
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

// Rows to gather: a tile is loaded from rows that follow each other.
struct Gathering {
  const char* parts;  // of the 32 channels to gather
  int64_t row_bytes;
  const int32_t* in_row;
  char* to;  // [3][32][64]

  VOXGATE_INLINE void Row(int64_t row) const {
    const char* from = parts + in_row[row] * row_bytes;
    for (int64_t part = 0; part < kSplitParts; ++part) {
      _mm512_store_si512(to + part * kStepBytes + row * kLine,
                         _mm512_load_si512(from + part * kLine));
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
constexpr Group kGroups[4][4] = {
    {MultiplyGroup<0, 0>, MultiplyGroup<0, 8>, MultiplyGroup<0, 16>, MultiplyGroup<0, 32>},
    {MultiplyGroup<8, 0>, MultiplyGroup<8, 8>, MultiplyGroup<8, 16>, MultiplyGroup<8, 32>},
    {MultiplyGroup<16, 0>, MultiplyGroup<16, 8>, MultiplyGroup<16, 16>, MultiplyGroup<16, 32>},
    {MultiplyGroup<32, 0>, MultiplyGroup<32, 8>, MultiplyGroup<32, 16>, MultiplyGroup<32, 32>}};

// 32 rows over so many turns: the index into kGroups, and the rows of one turn.
constexpr int ShareOver(int64_t turns) { return turns == 1 ? 3 : turns < 4 ? 2 : 1; }
constexpr int64_t RowsOf(int share) { return kBlockRows >> (3 - share); }

// Fills the last block up with a row that is there; what comes of it is not added.
void FillUp(const TilePairs& pairs) {
  for (int64_t p = pairs.count; p % kBlockRows != 0; ++p) pairs.in_row[p] = pairs.in_row[0];
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
    if (next_ != nullptr) FillUp(next_->pairs);
    if (run_.gathered_half < 0) {
      FillUp(pairs_);
      run_.gathered_half = 0;
      GatherNow();
    }
    for (int64_t pair = 0; pair < pairs_.count; pair += kBlockRows) {
      const int64_t next = pair + kBlockRows;
      const bool last = next >= pairs_.count;
      const TilePairs& holder = last && next_ != nullptr ? next_->pairs : pairs_;
      RunBlock(pair, holder.in_row + (last ? 0 : next), !last || next_ != nullptr);
    }
    if (next_ == nullptr) AddLate();
  }

 private:
  Gathering GatheringOf(const int32_t* in_row, int half, int64_t group, int64_t row) const {
    return {reinterpret_cast<const char*>(run_.parts) + group * kSplitParts * kLine,
            groups_ * kSplitParts * kLine, in_row + row,
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

  // Multiplies the block that is gathered, and gathers the rows of the next one if there is one.
  void RunBlock(int64_t pair, const int32_t* next_in_row, bool has_next) {
    const char* features = GatheredHalf(run_.gathered_half);
    const int next_half = run_.gathered_half ^ 1;
    const int gathers = ShareOver(sets_), adds = ShareOver(groups_);
    for (int64_t set = 0; set < sets_; ++set) {
      if (run_.late_rows < kBlockRows) AddLate();
      const int64_t gathered = set * RowsOf(gathers);
      const int gather = has_next && gathered < kBlockRows ? gathers : 0;
      _tile_zero(0);
      _tile_zero(1);
      _tile_zero(2);
      _tile_zero(3);
      for (int64_t group = 0; group < groups_; ++group) {
        const int64_t added = group * RowsOf(adds);
        const int add = run_.late_rows == kBlockRows && added < kBlockRows ? adds : 0;
        kGroups[gather][add](
            features + group * kGroupBytes, weight_ + (set * groups_ + group) * kGroupBytes,
            GatheringOf(next_in_row, next_half, group, gathered), LateFrom(added), run_);
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
  static constexpr SplitKernels kernels = {SplitRows, PackWeight, Begin, End, Accumulate};
  return &kernels;
}

}  // namespace rulebook::cpu

#else  // a compiler that knows no AMX, or another processor family

namespace rulebook::cpu {
const SplitKernels* AmxSplitKernels() { return nullptr; }
}  // namespace rulebook::cpu

#endif
