// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#include "operator_counters.h"

#include <map>
#include <mutex>
#include <set>
#include <tuple>

#include "operator_times.h"

namespace voxgate {
namespace {

struct Table {
  std::mutex mutex;
  // Model, operator, device. A map's nodes stay where they are: counters and names may be kept.
  std::map<std::tuple<std::string, std::string, std::string>, OperatorCounter> counters;
  std::set<PendingTimes*> pending;
};

// Never freed: sessions may end after this library's destructors.
Table& TheTable() {
  static Table* const table = new Table;
  return *table;
}

}  // namespace

OperatorCounter& CounterOf(const std::string& model, const char* operator_name,
                           const char* device) {
  Table& table = TheTable();
  const std::lock_guard<std::mutex> lock(table.mutex);
  return table.counters[{model, operator_name, device}];
}

void AddPending(PendingTimes* pending) {
  Table& table = TheTable();
  const std::lock_guard<std::mutex> lock(table.mutex);
  table.pending.insert(pending);
}

void RemovePending(PendingTimes* pending) noexcept {
  Table& table = TheTable();
  const std::lock_guard<std::mutex> lock(table.mutex);
  table.pending.erase(pending);
}

}  // namespace voxgate

size_t VoxgateOperatorTimes(VoxgateOperatorTime* rows, size_t capacity) {
  voxgate::Table& table = voxgate::TheTable();
  const std::lock_guard<std::mutex> lock(table.mutex);
  for (voxgate::PendingTimes* pending : table.pending) pending->Collect();
  size_t count = 0;
  for (const auto& [key, counter] : table.counters) {
    if (!counter.has_nodes.load(std::memory_order_relaxed)) continue;
    if (count < capacity) {
      const auto& [model, operator_name, device] = key;
      rows[count] = {model.c_str(), operator_name.c_str(), device.c_str(),
                     counter.calls.load(std::memory_order_relaxed),
                     counter.nanoseconds.load(std::memory_order_relaxed)};
    }
    ++count;
  }
  return count;
}
