// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// The threads of a stream: a writer, which owns the current call and makes the next one, and a
// reader for every call whose answers are not all there.
#pragma once

#include <condition_variable>
#include <deque>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "channel.h"
#include "frame_book.h"
#include "voxgate_client/client.h"

namespace voxgate {

class Stream::Impl {
 public:
  // Starts to connect. Throws Error (INVALID_ARGUMENT): options out of bounds.
  Impl(std::shared_ptr<const Connection> connection, const std::string& model,
       StreamOptions options);
  ~Impl() { Close(); }

  // Throws Error, with the stream closed, unless the server accepts it in time.
  void WaitAccepted(Seconds timeout);

  std::string Send(const Frame& frame, std::optional<Seconds> timeout);
  bool WaitForRoom(std::optional<Seconds> timeout);
  void Cancel(const std::string& frame_id);
  void CloseSending();
  void Close();
  std::optional<Answer> Receive(std::optional<Seconds> timeout);

  ModelInfo model() const;
  uint32_t max_queued_frames() const;
  size_t num_unanswered() const;
  std::optional<Error> end() const;
  std::vector<Notice> TakeNotices();

 private:
  using Lock = std::unique_lock<std::mutex>;

  // One StreamInfer call.
  struct Call {
    FrameBook::CallId id = FrameBook::kUnsent;
    std::shared_ptr<Connection::Stub> stub;  // outlives the call
    grpc::ClientContext context;
    std::unique_ptr<grpc::ClientReaderWriter<v1::StreamRequest, v1::StreamResponse>> stream;
    std::thread reader;
    bool accepted = false;
    bool draining = false;  // the server takes no more frames on it
    bool writing = false;   // the writer is inside Write or WritesDone
    bool half_closed = false;
    bool read_out = false;  // nothing more comes
    bool finished = false;  // its frames are all answered
  };

  struct Unsent {
    std::string frame_id;
    v1::StreamRequest request;
  };

  // All below are called with mutex_ held; those that take the lock let it go for a while.
  template <typename Ready>
  bool Wait(Lock& lock, std::optional<Seconds> timeout, Ready ready);
  bool HasRoom() const;
  bool MaySend(const Call& call) const;
  bool IsOver() const { return end_.has_value() && num_calls_ == 0; }
  void AddNotice(std::string kind, std::string message);
  void End(StatusCode code, const std::string& message);
  void Replace(const std::string& frame_id);

  void Write();
  bool WaitToConnect(Lock& lock);
  void OpenCall(Lock& lock);
  void UseCall(Lock& lock, Call& call);
  void WriteMessage(Lock& lock, Call& call, const v1::StreamRequest& request);
  void HalfClose(Lock& lock, Call& call);
  void JoinFinished(Lock& lock);

  void Read(Call& call);
  void Take(Call& call, v1::StreamResponse* response);
  void TakeOpened(Call& call, const v1::StreamOpened& opened);
  void TakeResult(Call& call, v1::InferResponse* result);
  void TakeNotice(Call& call, const v1::ServerNotice& notice);
  void Finish(Call& call, const grpc::Status& status);
  void RetryOrEnd(const Call& call, const Error& error);

  const std::shared_ptr<const Connection> connection_;
  const StreamOptions options_;
  const v1::StreamRequest opening_;

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  FrameBook book_;
  std::deque<Unsent> unsent_;
  std::deque<std::string> cancels_;
  std::deque<Notice> notices_;
  ModelInfo model_;
  uint64_t max_frame_bytes_ = 0;
  uint32_t max_queued_frames_ = 0;
  bool accepted_ = false;  // at least one call was
  bool closing_ = false;
  bool closed_sending_ = false;
  std::optional<Error> end_;
  std::optional<Error> last_failure_;

  std::list<Call> calls_;
  Call* current_ = nullptr;
  size_t num_calls_ = 0;  // not finished
  FrameBook::CallId next_call_ = FrameBook::kUnsent + 1;
  std::chrono::steady_clock::time_point retry_at_;
  std::chrono::steady_clock::time_point without_server_since_;
  Seconds pause_;

  std::once_flag joined_;
  std::thread writer_;
};

}  // namespace voxgate
