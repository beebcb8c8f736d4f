// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// The book of one stream: which frames are unanswered, who is to answer them, and the answers not
// yet received. Every frame that is added gets exactly one answer. Does no I/O and takes no lock.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <string>
#include <unordered_map>

#include "voxgate_client/frame.h"

namespace voxgate {

class FrameBook {
 public:
  using Clock = std::chrono::steady_clock;
  // One of the stream's calls, in the order made; kUnsent: none yet.
  using CallId = uint64_t;
  static constexpr CallId kUnsent = 0;

  // Notes a frame and starts its clock; "" chooses an id.
  // Throws Error (ALREADY_EXISTS): a frame of that id is unanswered.
  std::string Add(const std::string& frame_id);

  // `call` answers the frame from now on.
  void Sent(const std::string& frame_id, CallId call);

  // The call that answers the frame; kUnsent also for a frame that is not in the book.
  CallId CallOf(const std::string& frame_id) const;
  bool Has(const std::string& frame_id) const { return unanswered_.count(frame_id) != 0; }

  // Answers a frame of `call`; false if there is no such frame.
  bool Answer(FrameResult result, CallId call);
  bool Answer(FrameFailure failure, CallId call);

  // Answers every frame of `call`.
  void FailAll(CallId call, StatusCode code, const std::string& message);

  size_t num_unanswered() const { return unanswered_.size(); }
  std::deque<voxgate::Answer>& answers() { return answers_; }

 private:
  struct Unanswered {
    Clock::time_point since;
    CallId call = kUnsent;
  };

  template <typename Any>
  bool Settle(Any answer, CallId call);

  std::unordered_map<std::string, Unanswered> unanswered_;
  std::deque<voxgate::Answer> answers_;
  uint64_t next_id_ = 0;
};

}  // namespace voxgate
