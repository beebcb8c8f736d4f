// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// What tests of the CUDA backend share. They are the same on a GPU and in emulation: memory goes
// through DeviceArray, contexts come from OnDevices.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "check.h"
#include "device.h"
#include "rulebook/coords.h"
#include "support.h"

namespace support {

constexpr rulebook::Device kCuda = rulebook::Device::kCuda;

// The GPU, or one emulated.
inline std::unique_ptr<rulebook::CudaContext> MakeOneContext() {
#if defined(__CUDACC__)
  return rulebook::MakeCudaContext(0);
#else
  return cuda_emulation::MakeContext(4);
#endif
}

// A context that allows tf32, on another's stream and memory.
class Tf32Context : public rulebook::CudaContext {
 public:
  explicit Tf32Context(rulebook::CudaContext& context) : context_(context) {}
  CUstream_st* stream() const override { return context_.stream(); }
  void* Allocate(size_t bytes) override { return context_.Allocate(bytes); }
  void Release(void* memory) noexcept override { context_.Release(memory); }
  void* pinned() override { return context_.pinned(); }
  bool use_tf32() const override { return true; }

 private:
  rulebook::CudaContext& context_;
};

// Calls body(context) on the GPU, or in emulation once for each scheduling seed: three, or fewer
// for what takes long.
template <typename Body>
void OnDevices(const Body& body, [[maybe_unused]] uint64_t seeds = 3) {
#if defined(__CUDACC__)
  const auto context = rulebook::MakeCudaContext(0);
  body(*context);
#else
  for (uint64_t seed = 1; seed <= seeds; ++seed) {
    const auto context = cuda_emulation::MakeContext(seed);
    body(*context);
  }
#endif
}

// The CPU and the device refuse the input with the same words.
template <typename OnCpu, typename OnCuda>
void CheckSameError(const OnCpu& on_cpu, const OnCuda& on_cuda, uint64_t seeds = 3) {
  std::string expected;
  try {
    const auto pool = rulebook::MakeThreadPool(1);
    on_cpu(*pool);
  } catch (const rulebook::Error& error) {
    expected = error.what();
  }
  CHECK(!expected.empty());
  OnDevices(
      [&](rulebook::CudaContext& context) {
        std::string message;
        try {
          on_cuda(context);
        } catch (const rulebook::Error& error) {
          message = error.what();
        }
        CHECK_EQ(message, expected);
      },
      seeds);
}

// Memory on the device for the length of a test.
template <typename T>
class DeviceArray {
 public:
  DeviceArray(rulebook::CudaContext& context, int64_t count)
      : context_(context), count_(count), memory_(context, count) {}
  DeviceArray(rulebook::CudaContext& context, const std::vector<T>& values)
      : DeviceArray(context, static_cast<int64_t>(values.size())) {
    rulebook::cuda::CopyToDevice(context, memory_.get(), values.data(), count_);
  }

  T* get() const { return memory_.get(); }

  std::vector<T> Read() const {
    std::vector<T> values(static_cast<size_t>(count_));
    rulebook::cuda::ReadBack(context_, memory_.get(), count_, values.data());
    return values;
  }

 private:
  rulebook::CudaContext& context_;
  int64_t count_;
  rulebook::cuda::Scratch<T> memory_;
};

// Coords on the device.
class DeviceCoords {
 public:
  DeviceCoords(rulebook::CudaContext& context, const Coords& coords)
      : rows_(coords.rows()), axes_(coords.axes), values_(context, coords.values) {}
  rulebook::CoordsView view() const { return {values_.get(), rows_, axes_}; }

 private:
  int64_t rows_;
  int axes_;
  DeviceArray<int32_t> values_;
};

// Every so many a row of `coords`, `count` in all.
inline Coords Thinned(const Coords& coords, int64_t count) {
  Coords thinned{coords.axes, {}};
  for (int64_t i = 0; i < count; ++i) {
    const int32_t* site = coords.view().row(i * coords.rows() / count);
    thinned.values.insert(thinned.values.end(), site, site + coords.axes + 1);
  }
  return thinned;
}

struct SiteCase {
  rulebook::SpatialShape shape;
  Coords coords;  // canonical
};

// 0, 1, 19, 989 and 5000 sites in up to three frames on grids of 1 to 4 axes, small enough that
// sites have neighbours.
inline std::vector<SiteCase> SiteCases() {
  const rulebook::SpatialShape shapes[] = {Axes({40000}), Axes({130, 90}), Axes({21, 34, 40}),
                                           Axes({9, 11, 13, 17})};
#if defined(VOXGATE_EMULATION_THREAD)
  const std::vector<int64_t> counts = {0, 1, 19, 700};  // its time is ten times the plain build's
#else
  const std::vector<int64_t> counts = {0, 1, 19, 989, 5000};
#endif
  std::vector<SiteCase> cases;
  for (const rulebook::SpatialShape& shape : shapes) {
    const Coords many = RandomSites(3, shape, 6, 7);
    for (const int64_t count : counts) cases.push_back({shape, Thinned(many, count)});
  }
  return cases;
}

}  // namespace support
