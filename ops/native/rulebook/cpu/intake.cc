// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#include "rulebook/intake.h"

#include <algorithm>
#include <cstring>

#include "columns.h"
#include "site_key.h"

namespace rulebook {
namespace {

constexpr uint32_t kExponent = 0x7F800000;  // all ones in what is no finite float32
constexpr int64_t kFloatsPerBlock = 4096;

template <typename Index, int kColumns>
void Read(const char* bytes, int64_t rows, int32_t batch, int32_t* coords) {
  constexpr size_t kAxes = kColumns - 1;
  for (int64_t i = 0; i < rows; ++i, bytes += kAxes * sizeof(Index), coords += kColumns) {
    Index site[kAxes];
    std::memcpy(site, bytes, sizeof(site));  // the address may be odd
    coords[0] = batch;
    for (size_t axis = 0; axis < kAxes; ++axis) coords[1 + axis] = site[axis];
  }
}

bool IsFinite(float value) {
  uint32_t bits = 0;
  std::memcpy(&bits, &value, sizeof(bits));
  return (bits & kExponent) != kExponent;
}

}  // namespace

void ReadSites(const void* bytes, IndexWidth width, int64_t rows, int axes, int32_t batch,
               int32_t* coords) {
  const char* from = static_cast<const char*>(bytes);
  WithColumns(1 + axes, [&](auto columns) {
    if (width == IndexWidth::kInt16) {
      Read<int16_t, columns>(from, rows, batch, coords);
    } else {
      Read<int32_t, columns>(from, rows, batch, coords);
    }
  });
}

int64_t ReadFloats(const void* bytes, int64_t count, float* values) {
  const char* from = static_cast<const char*>(bytes);
  int64_t first = -1;
  // Block by block, so that a block is checked while it is in the nearest cache, without a branch
  // for each value.
  for (int64_t begin = 0; begin < count; begin += kFloatsPerBlock) {
    const int64_t end = std::min(begin + kFloatsPerBlock, count);
    std::memcpy(values + begin, from + static_cast<size_t>(begin) * sizeof(float),
                static_cast<size_t>(end - begin) * sizeof(float));
    bool finite = true;
    for (int64_t i = begin; i < end; ++i) finite &= IsFinite(values[i]);
    if (!finite && first < 0)
      first = std::find_if_not(values + begin, values + end, IsFinite) - values;
  }
  return first;
}

}  // namespace rulebook
