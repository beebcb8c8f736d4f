// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// What a run found: latencies by stage, throughput and errors, as tables or as JSON.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <iosfwd>
#include <map>
#include <string>
#include <vector>

#include "voxgate_client/frame.h"

namespace voxgate {

// In the order a frame passes them; "total" is the server's, "client" what the caller waited.
constexpr std::array<const char*, 7> kStages = {"receive", "decode", "queue", "execute",
                                                "encode",  "total",  "client"};

// The value below which `percent` of the values lie, between two of them linearly as numpy does it.
// values: sorted, at least one.
double Percentile(const std::vector<double>& values, double percent);

// One line of text: line ends and other control characters become spaces.
std::string Printable(std::string text);

class Report {
 public:
  // replaces: a frame that a newer one replaced (ABORTED) is no failure. prints: a line for each
  // frame, to `out`.
  Report(ModelInfo model, bool replaces, bool prints, std::ostream& out);

  // A frame about to be sent; its answer is added under the same id.
  void Sent(const std::string& frame_id, const std::string& file, size_t rows, uint64_t bytes);
  // Says that the frame is not sent after all.
  void NotSent(const std::string& frame_id);
  void Add(const FrameResult& result);
  void Add(const FrameFailure& failure);

  // Frames that failed; those a newer one replaced do not count.
  size_t num_failed() const;

  void Print(double seconds) const;
  void PrintJson(double seconds) const;

 private:
  struct FrameLine {
    std::string file;
    size_t rows = 0;
    uint64_t bytes = 0;
  };

  FrameLine Take(const std::string& frame_id);
  void PrintHead();
  std::array<std::vector<double>, kStages.size()> Sorted() const;

  const ModelInfo model_;
  const bool replaces_;
  const bool prints_;
  std::ostream& out_;
  std::map<std::string, FrameLine> waiting_;
  std::array<std::vector<double>, kStages.size()> stages_;  // milliseconds
  std::map<std::string, size_t> errors_;
  std::map<std::string, size_t> messages_;
  size_t num_sent_ = 0;
  size_t num_ok_ = 0;
  size_t num_superseded_ = 0;
  uint64_t rows_ = 0;
  uint64_t bytes_ = 0;
};

}  // namespace voxgate
