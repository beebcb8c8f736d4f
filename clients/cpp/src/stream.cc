// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#include "stream.h"

#include <algorithm>
#include <random>
#include <utility>

#include "messages.h"
#include "model_info.h"
#include "text.h"

namespace voxgate {
namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kMaxNotices = 256;
constexpr FrameBook::CallId kFirstCall = FrameBook::kUnsent + 1;

// With these the server itself ended the stream, and they answer its frames: another try would end
// the same way. Every other end is a broken stream, whatever the transport calls it.
bool IsDeliberate(StatusCode code) {
  switch (code) {
    case StatusCode::kInvalidArgument:
    case StatusCode::kNotFound:
    case StatusCode::kUnauthenticated:
    case StatusCode::kPermissionDenied:
    case StatusCode::kFailedPrecondition:
    case StatusCode::kUnimplemented:
      return true;
    default:
      return false;
  }
}

// Up to a quarter less, so that a fleet does not come back in step.
Seconds Jittered(Seconds pause) {
  thread_local std::minstd_rand random{std::random_device{}()};
  return pause * std::uniform_real_distribution<double>(0.75, 1.0)(random);
}

void CheckOptions(const StreamOptions& options) {
  if (options.max_unsent < 1) ThrowInvalid("max_unsent is 0, expected at least 1");
  if (!(options.first_pause.count() > 0 && options.longest_pause >= options.first_pause)) {
    ThrowInvalid("pauses from ", options.first_pause.count(), " to ", options.longest_pause.count(),
                 " s, expected above 0 and not falling");
  }
}

}  // namespace

Stream::Impl::Impl(std::shared_ptr<const Connection> connection, const std::string& model,
                   StreamOptions options)
    : connection_(std::move(connection)),
      options_(std::move(options)),
      opening_(OpenMessage(model, options_)),
      retry_at_(Clock::now()),
      without_server_since_(Clock::now()),
      pause_(options_.first_pause) {
  CheckOptions(options_);
  writer_ = std::thread([this] { Write(); });
}

void Stream::Impl::WaitAccepted(Seconds timeout) {
  Lock lock(mutex_);
  const bool decided =
      Wait(lock, timeout, [this] { return accepted_ || (end_.has_value() && num_calls_ == 0); });
  if (accepted_) return;
  const std::optional<Error> end = end_;
  const std::string last = last_failure_.has_value() ? Text("; ", last_failure_->what()) : "";
  lock.unlock();
  Close();
  if (decided) throw *end;
  throw Error(StatusCode::kDeadlineExceeded,
              Text(connection_->options().target, " did not accept the stream in ", timeout.count(),
                   " s", last));
}

template <typename Ready>
bool Stream::Impl::Wait(Lock& lock, std::optional<Seconds> timeout, Ready ready) {
  if (timeout.has_value()) return changed_.wait_until(lock, After<Clock>(*timeout), ready);
  changed_.wait(lock, ready);
  return true;
}

// ---- the caller's side -------------------------------------------------------------------------

bool Stream::Impl::HasRoom() const {
  if (options_.policy == QueuePolicy::kLatest) return true;
  const bool few = options_.max_in_flight == 0 || book_.num_unanswered() < options_.max_in_flight;
  return few && unsent_.size() < options_.max_unsent;
}

bool Stream::Impl::WaitForRoom(std::optional<Seconds> timeout) {
  Lock lock(mutex_);
  Wait(lock, timeout, [this] { return end_.has_value() || HasRoom(); });
  return !end_.has_value() && HasRoom();
}

std::string Stream::Impl::Send(const Frame& frame, std::optional<Seconds> timeout) {
  if (!frame.frame_id.empty()) CheckFrameId(frame.frame_id);
  v1::StreamRequest request = FrameMessage(frame);  // copies the arrays, so without the lock
  const uint64_t bytes = PayloadBytes(request.frame());
  Lock lock(mutex_);
  const bool room =
      Wait(lock, timeout, [this] { return end_.has_value() || closed_sending_ || HasRoom(); });
  if (closed_sending_) throw Error(StatusCode::kFailedPrecondition, "sending was closed");
  if (end_.has_value()) {
    throw Error(StatusCode::kUnavailable, Text("the stream is over: ", end_->what()));
  }
  if (!room) {
    throw Error(StatusCode::kDeadlineExceeded,
                Text(book_.num_unanswered(), " frames unanswered and ", unsent_.size(),
                     " of them unsent after ", timeout->count(), " s"));
  }
  if (max_frame_bytes_ > 0 && bytes > max_frame_bytes_) {
    ThrowInvalid("the frame has ", bytes, " bytes, the server takes at most ", max_frame_bytes_,
                 " (its max_frame_bytes)");
  }
  std::string frame_id = book_.Add(frame.frame_id);
  request.mutable_frame()->set_frame_id(frame_id);
  if (options_.policy == QueuePolicy::kLatest) Replace(frame_id);
  unsent_.push_back({frame_id, std::move(request)});
  changed_.notify_all();
  return frame_id;
}

void Stream::Impl::Replace(const std::string& frame_id) {
  for (const Unsent& old : unsent_) {
    book_.Answer(FrameFailure{old.frame_id, StatusCode::kAborted,
                              Text("superseded by ", frame_id, " before it was sent"), Seconds{0}},
                 FrameBook::kUnsent);
  }
  unsent_.clear();
}

void Stream::Impl::Cancel(const std::string& frame_id) {
  Lock lock(mutex_);
  if (!book_.Has(frame_id)) return;
  if (book_.CallOf(frame_id) != FrameBook::kUnsent) {
    cancels_.push_back(frame_id);
  } else {
    unsent_.erase(std::remove_if(unsent_.begin(), unsent_.end(),
                                 [&](const Unsent& frame) { return frame.frame_id == frame_id; }),
                  unsent_.end());
    book_.Answer(
        FrameFailure{frame_id, StatusCode::kCancelled, "cancelled before it was sent", Seconds{0}},
        FrameBook::kUnsent);
  }
  changed_.notify_all();
}

void Stream::Impl::CloseSending() {
  Lock lock(mutex_);
  closed_sending_ = true;
  changed_.notify_all();
}

void Stream::Impl::Close() {
  {
    Lock lock(mutex_);
    closing_ = closed_sending_ = true;
    for (Call& call : calls_) {
      if (!call.finished) call.context.TryCancel();
    }
    End(StatusCode::kCancelled, "closed by the caller");
  }
  std::call_once(joined_, [this] {
    writer_.join();
    for (Call& call : calls_) {
      if (call.reader.joinable()) call.reader.join();
    }
  });
}

std::optional<Answer> Stream::Impl::Receive(std::optional<Seconds> timeout) {
  Lock lock(mutex_);
  auto& answers = book_.answers();
  if (!Wait(lock, timeout, [&] { return !answers.empty() || IsOver(); })) {
    throw Error(StatusCode::kDeadlineExceeded, Text("no answer in ", timeout->count(), " s"));
  }
  if (answers.empty()) return std::nullopt;
  std::optional<Answer> answer = std::move(answers.front());
  answers.pop_front();
  return answer;
}

ModelInfo Stream::Impl::model() const {
  Lock lock(mutex_);
  return model_;
}

uint32_t Stream::Impl::max_queued_frames() const {
  Lock lock(mutex_);
  return max_queued_frames_;
}

size_t Stream::Impl::num_unanswered() const {
  Lock lock(mutex_);
  return book_.num_unanswered();
}

std::optional<Error> Stream::Impl::end() const {
  Lock lock(mutex_);
  return IsOver() ? end_ : std::nullopt;
}

std::vector<Notice> Stream::Impl::TakeNotices() {
  Lock lock(mutex_);
  std::vector<Notice> taken(notices_.begin(), notices_.end());
  notices_.clear();
  return taken;
}

void Stream::Impl::AddNotice(std::string kind, std::string message) {
  if (notices_.size() == kMaxNotices) notices_.pop_front();
  notices_.push_back({std::move(kind), std::move(message)});
}

// The stream takes no more frames; those that no call has are answered here.
void Stream::Impl::End(StatusCode code, const std::string& message) {
  if (!end_.has_value()) end_.emplace(code, message);
  unsent_.clear();
  const bool as_it_is = IsDeliberate(code) || code == StatusCode::kCancelled;
  book_.FailAll(FrameBook::kUnsent, as_it_is ? code : StatusCode::kUnavailable,
                as_it_is ? message : Text("not sent: ", end_->what()));
  changed_.notify_all();
}

// ---- the writer --------------------------------------------------------------------------------

void Stream::Impl::Write() {
  Lock lock(mutex_);
  while (!end_.has_value()) {
    JoinFinished(lock);
    if (current_ != nullptr) {
      UseCall(lock, *current_);
    } else if (closed_sending_ && unsent_.empty()) {
      End(StatusCode::kOk, "the stream was closed");
    } else if (WaitToConnect(lock)) {
      OpenCall(lock);
    }
  }
}

// Until the pause is over; false if something else happened first.
bool Stream::Impl::WaitToConnect(Lock& lock) {
  return !changed_.wait_until(
      lock, retry_at_, [this] { return end_.has_value() || (closed_sending_ && unsent_.empty()); });
}

void Stream::Impl::OpenCall(Lock& lock) {
  Call& call = calls_.emplace_back();
  call.id = next_call_++;
  connection_->Authorize(&call.context);
  current_ = &call;
  ++num_calls_;
  call.writing = true;
  lock.unlock();
  call.stub = call.id == kFirstCall ? connection_->stub() : connection_->NewStub();
  call.stream = call.stub->StreamInfer(&call.context);  // waits for the connection
  call.stream->Write(opening_);                         // a failure is the reader's to see
  lock.lock();
  call.writing = false;
  call.reader = std::thread([this, &call] { Read(call); });
}

bool Stream::Impl::MaySend(const Call& call) const {
  if (!call.accepted || unsent_.empty()) return false;
  return options_.max_in_flight == 0 ||
         book_.num_unanswered() - unsent_.size() < options_.max_in_flight;
}

// Does the next thing there is to do on the call, or waits for one.
void Stream::Impl::UseCall(Lock& lock, Call& call) {
  if (call.read_out) {
    changed_.wait(lock, [&] { return call.finished; });
  } else if (call.draining) {
    HalfClose(lock, call);
    if (current_ == &call) current_ = nullptr;
    retry_at_ = without_server_since_ = Clock::now();
  } else if (!cancels_.empty() && call.accepted) {
    const std::string frame_id = std::move(cancels_.front());
    cancels_.pop_front();
    // A frame of an older call, or one answered by now, has nothing left to cancel.
    if (book_.CallOf(frame_id) != call.id) return;
    v1::StreamRequest request;
    request.set_cancel_frame_id(frame_id);
    WriteMessage(lock, call, request);
  } else if (MaySend(call)) {
    const Unsent frame = std::move(unsent_.front());
    unsent_.pop_front();
    book_.Sent(frame.frame_id, call.id);
    changed_.notify_all();  // there is room for the next one
    WriteMessage(lock, call, frame.request);
  } else if (closed_sending_ && unsent_.empty() && call.accepted && !call.half_closed) {
    HalfClose(lock, call);
  } else {
    changed_.wait(lock);
  }
}

void Stream::Impl::WriteMessage(Lock& lock, Call& call, const v1::StreamRequest& request) {
  if (call.half_closed) return;
  call.writing = true;
  lock.unlock();
  const bool written = call.stream->Write(request);
  lock.lock();
  call.writing = false;
  changed_.notify_all();
  // A failed write means that the call is over: its reader answers what is left.
  if (!written) changed_.wait(lock, [&] { return call.finished; });
}

void Stream::Impl::HalfClose(Lock& lock, Call& call) {
  if (call.half_closed) return;
  call.half_closed = call.writing = true;
  lock.unlock();
  call.stream->WritesDone();
  lock.lock();
  call.writing = false;
  changed_.notify_all();
}

void Stream::Impl::JoinFinished(Lock& lock) {
  std::list<Call> finished;
  for (auto call = calls_.begin(); call != calls_.end();) {
    const auto next = std::next(call);
    if (call->finished && &*call != current_) finished.splice(finished.end(), calls_, call);
    call = next;
  }
  if (finished.empty()) return;
  lock.unlock();
  for (Call& call : finished) call.reader.join();
  lock.lock();
}

// ---- the readers -------------------------------------------------------------------------------

void Stream::Impl::Read(Call& call) {
  v1::StreamResponse response;
  while (call.stream->Read(&response)) {
    Lock lock(mutex_);
    Take(call, &response);
    changed_.notify_all();
  }
  {
    Lock lock(mutex_);
    call.read_out = true;
    changed_.notify_all();
    changed_.wait(lock, [&] { return !call.writing; });
  }
  const grpc::Status status = call.stream->Finish();
  Lock lock(mutex_);
  Finish(call, status);
  changed_.notify_all();
}

void Stream::Impl::Take(Call& call, v1::StreamResponse* response) {
  if (response->has_opened()) {
    TakeOpened(call, response->opened());
  } else if (response->has_result()) {
    TakeResult(call, response->mutable_result());
  } else if (response->has_error()) {
    const v1::FrameError& error = response->error();
    const StatusCode code = StatusCodeOf(error.code());
    if (!book_.Answer(FrameFailure{error.frame_id(), code, error.message(), Seconds{0}}, call.id)) {
      AddNotice("UNMATCHED",
                Text("frame \"", error.frame_id(), "\": ", Name(code), ": ", error.message()));
    }
  } else if (response->has_notice()) {
    TakeNotice(call, response->notice());
  }
}

void Stream::Impl::TakeOpened(Call& call, const v1::StreamOpened& opened) {
  if (accepted_) AddNotice("RECONNECTED", Text("to ", connection_->options().target));
  call.accepted = accepted_ = true;
  model_ = ParseModel(opened.model());
  max_frame_bytes_ = opened.max_frame_bytes();
  max_queued_frames_ = opened.max_queued_frames();
  pause_ = options_.first_pause;
}

void Stream::Impl::TakeResult(Call& call, v1::InferResponse* result) {
  const std::string frame_id = result->frame_id();
  bool matched = false;
  try {
    matched = book_.Answer(ParseResult(result), call.id);
  } catch (const Error& error) {
    matched =
        book_.Answer(FrameFailure{frame_id, error.code(), error.message(), Seconds{0}}, call.id);
  }
  if (!matched) {
    AddNotice("UNMATCHED", Text("a result for frame \"", frame_id, "\", which is not unanswered"));
  }
}

void Stream::Impl::TakeNotice(Call& call, const v1::ServerNotice& notice) {
  const bool known = v1::ServerNotice_Kind_IsValid(notice.kind());
  AddNotice(known ? v1::ServerNotice_Kind_Name(notice.kind()) : std::to_string(notice.kind()),
            notice.message());
  if (notice.kind() == v1::ServerNotice::DRAINING) call.draining = options_.reconnect;
  if (notice.kind() == v1::ServerNotice::MODEL_RELOADED && notice.has_model()) {
    model_ = ParseModel(notice.model());
  }
}

void Stream::Impl::Finish(Call& call, const grpc::Status& status) {
  Error error =
      status.ok() ? Error(StatusCode::kOk, "the server closed the stream") : ToError(status);
  if (closing_) error = *end_;
  const bool as_it_is = closing_ || IsDeliberate(error.code());
  book_.FailAll(
      call.id, as_it_is ? error.code() : StatusCode::kUnavailable,
      as_it_is ? error.message() : Text("the stream ended before the answer (", error.what(), ")"));
  call.finished = true;
  --num_calls_;
  if (current_ == &call) {
    current_ = nullptr;
    RetryOrEnd(call, error);
  }
}

void Stream::Impl::RetryOrEnd(const Call& call, const Error& error) {
  last_failure_ = error;
  const auto now = Clock::now();
  if (call.accepted) without_server_since_ = now;
  const bool too_long =
      options_.give_up_after.count() > 0 && now - without_server_since_ >= options_.give_up_after;
  const bool all_sent = closed_sending_ && unsent_.empty();
  if (!options_.reconnect || IsDeliberate(error.code()) || too_long || all_sent || closing_) {
    End(error.code(), error.message());
    return;
  }
  const Seconds pause = Jittered(pause_);
  retry_at_ = After<Clock>(pause);
  pause_ = std::min(2 * pause_, options_.longest_pause);
  AddNotice("RECONNECTING", Text("in ", pause.count(), " s: ", error.what()));
}

// ---- Stream ------------------------------------------------------------------------------------

Stream::Stream(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Stream::~Stream() = default;

ModelInfo Stream::model() const { return impl_->model(); }

uint32_t Stream::max_queued_frames() const { return impl_->max_queued_frames(); }

size_t Stream::num_unanswered() const { return impl_->num_unanswered(); }

std::string Stream::Send(const Frame& frame, std::optional<Seconds> timeout) {
  return impl_->Send(frame, timeout);
}

bool Stream::WaitForRoom(std::optional<Seconds> timeout) { return impl_->WaitForRoom(timeout); }

void Stream::Cancel(const std::string& frame_id) { impl_->Cancel(frame_id); }

void Stream::CloseSending() { impl_->CloseSending(); }

void Stream::Close() { impl_->Close(); }

std::optional<Answer> Stream::Receive(std::optional<Seconds> timeout) {
  return impl_->Receive(timeout);
}

std::vector<Notice> Stream::TakeNotices() { return impl_->TakeNotices(); }

std::optional<Error> Stream::end() const { return impl_->end(); }

}  // namespace voxgate
