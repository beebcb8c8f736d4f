// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#include "frame_book.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "text.h"

namespace voxgate {

std::string FrameBook::Add(const std::string& frame_id) {
  std::string id = frame_id;
  while (id.empty()) {
    id = std::to_string(next_id_++);
    if (Has(id)) id.clear();
  }
  if (!unanswered_.try_emplace(id, Unanswered{Clock::now(), kUnsent}).second) {
    throw Error(StatusCode::kAlreadyExists,
                Text("frame ", id, " of this stream is still unanswered: give another frame_id"));
  }
  return id;
}

void FrameBook::Sent(const std::string& frame_id, CallId call) {
  unanswered_.at(frame_id).call = call;
}

FrameBook::CallId FrameBook::CallOf(const std::string& frame_id) const {
  const auto found = unanswered_.find(frame_id);
  return found == unanswered_.end() ? kUnsent : found->second.call;
}

template <typename Any>
bool FrameBook::Settle(Any answer, CallId call) {
  const auto found = unanswered_.find(answer.frame_id);
  if (found == unanswered_.end() || found->second.call != call) return false;
  answer.client_time = Clock::now() - found->second.since;
  unanswered_.erase(found);
  answers_.emplace_back(std::move(answer));
  return true;
}

bool FrameBook::Answer(FrameResult result, CallId call) { return Settle(std::move(result), call); }

bool FrameBook::Answer(FrameFailure failure, CallId call) {
  return Settle(std::move(failure), call);
}

void FrameBook::FailAll(CallId call, StatusCode code, const std::string& message) {
  std::vector<std::pair<Clock::time_point, std::string>> left;
  for (const auto& [frame_id, frame] : unanswered_) {
    if (frame.call == call) left.emplace_back(frame.since, frame_id);
  }
  std::sort(left.begin(), left.end());
  for (auto& [since, frame_id] : left) {
    Settle(FrameFailure{std::move(frame_id), code, message, Seconds{0}}, call);
  }
}

}  // namespace voxgate
