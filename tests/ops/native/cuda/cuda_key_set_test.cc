// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <numeric>
#include <vector>

#include "check.h"
#include "device_support.h"
#include "key_set.h"

using rulebook::CudaContext;
using rulebook::cuda::KeySetView;
using support::DeviceArray;

namespace {

// Every thread but each seventh has a key, one of `different`.
__global__ void AddThreads(int64_t threads, uint64_t different, KeySetView set) {
  const int64_t i = rulebook::cuda::GlobalThread();
  rulebook::cuda::AddKeys(set, i < threads && i % 7 != 0, static_cast<uint64_t>(i) % different);
}

struct Listed {
  int64_t count;
  std::vector<uint64_t> keys;
};

Listed List(CudaContext& context, int64_t threads, uint64_t different, int64_t places,
            int64_t limit) {
  const DeviceArray<uint64_t> place_keys(context, places);
  const DeviceArray<uint64_t> keys(context, limit);
  const DeviceArray<int64_t> count(context, 1);
  rulebook::cuda::FillBytes(context, place_keys.get(), 0xFF, places);
  rulebook::cuda::FillBytes(context, keys.get(), 0xFF, limit);
  rulebook::cuda::FillBytes(context, count.get(), 0, 1);
  rulebook::cuda::Launch(context, rulebook::cuda::OneThreadEach(threads), &AddThreads, threads,
                         different,
                         KeySetView{place_keys.get(), static_cast<uint64_t>(places) - 1, keys.get(),
                                    limit, count.get()});
  Listed listed{count.Read().front(), keys.Read()};
  std::sort(listed.keys.begin(), listed.keys.end());
  return listed;
}

}  // namespace

TEST(ListsEachKeyOnce) {
  support::OnDevices([](CudaContext& context) {
    const Listed listed = List(context, 3000, 100, 256, 100);
    std::vector<uint64_t> all(100);
    std::iota(all.begin(), all.end(), uint64_t{0});
    CHECK_EQ(listed.count, 100);
    CHECK(listed.keys == all);
  });
}

TEST(TooManyKeysAreToldAndEndTheSearch) {
  support::OnDevices([](CudaContext& context) {
    for (const int64_t places : {64, 4096}) {  // the first are fewer than the keys
      const Listed listed = List(context, 3000, 1000, places, 20);
      CHECK(listed.count > 20);
      // In a full set two threads may both find a key new.
      const bool once =
          std::adjacent_find(listed.keys.begin(), listed.keys.end()) == listed.keys.end();
      CHECK(once || places < 1000);
      CHECK(listed.keys.back() < 1000);
    }
  });
}
