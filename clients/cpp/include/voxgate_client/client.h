// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// A connection to a Voxgate server, and streams of frames over it.
//
//   voxgate::Client client({"localhost:8001"});
//   auto stream = client.OpenStream("unet");
//   stream->Send(voxgate::MakeFrame(voxgate::ReadBin("000000.bin"), stream->model()));
//   stream->CloseSending();
//   while (auto answer = stream->Receive()) { … }
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "voxgate_client/frame.h"

namespace voxgate {

struct TlsOptions {
  std::string root_certificates;  // PEM text; empty: gRPC's own roots
  std::string certificate;        // PEM text of this client, for servers that ask for one
  std::string key;                // PEM text; given exactly when `certificate` is
  std::string server_name;        // checked in place of the target's host, if not empty
};

struct ClientOptions {
  std::string target = "localhost:8001";  // host:port
  std::optional<TlsOptions> tls;          // none: no TLS
  std::string token;                      // sent as `authorization: Bearer …`, if not empty
  bool insecure_token = false;            // sends the token without TLS beyond this machine
  Seconds timeout{30};                    // of ListModels, GetModel and the opening of a stream
  int max_answer_bytes = 1 << 30;
};

enum class QueuePolicy { kFifo, kLatest };

struct StreamOptions {
  // What the server is asked for; zeros and empty values leave the choice to it.
  std::string version;               // a positive integer; "": the newest ready one
  std::vector<std::string> outputs;  // empty: all of them
  QueuePolicy policy = QueuePolicy::kFifo;
  uint32_t max_queued_frames = 0;
  std::optional<Seconds> frame_deadline;  // from a frame's last byte to its execution
  int32_t priority = 0;
  bool unordered = false;  // results as they are ready, not in the order sent

  // What Send does. Under kFifo it waits while max_in_flight frames are unanswered (0: no such
  // limit) or max_unsent frames are not on their way yet. Under kLatest it never waits: one frame
  // is kept until it may go out, and a newer one replaces it (answered ABORTED).
  size_t max_in_flight = 0;
  size_t max_unsent = 4;

  // After a broken stream its unanswered frames come as UNAVAILABLE, and a new one is opened, with
  // growing pauses; on DRAINING a new one is opened at once and the old one read out.
  bool reconnect = false;
  Seconds first_pause{0.1};
  Seconds longest_pause{5};
  Seconds give_up_after{0};  // without a server for so long the stream ends; 0: never
};

// News about the stream that answers no frame.
struct Notice {
  // DRAINING, MODEL_RELOADED, RECONNECTING, RECONNECTED, or UNMATCHED for an answer to no frame.
  std::string kind;
  std::string message;
};

// One stream of frames. Every frame Send took is answered exactly once, by the server or by the
// stream's end. Thread-safe: one thread may send while another receives. Answers are read on a
// thread of the stream and kept until they are received.
class Stream {
 public:
  ~Stream();  // as Close
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  // The model that answers, now.
  ModelInfo model() const;
  // Frames of this stream the server lets wait.
  uint32_t max_queued_frames() const;
  size_t num_unanswered() const;

  // Sends one frame and returns its id; see StreamOptions for when it waits.
  //
  // Throws Error: INVALID_ARGUMENT (the frame cannot be sent as it is, or is above the server's
  // limit), ALREADY_EXISTS (its id is unanswered), DEADLINE_EXCEEDED (no room in `timeout`),
  // FAILED_PRECONDITION (after CloseSending), UNAVAILABLE (the stream is over). Then no answer
  // comes.
  std::string Send(const Frame& frame, std::optional<Seconds> timeout = std::nullopt);

  // Waits until Send would not; false if that took longer than `timeout` or the stream is over.
  bool WaitForRoom(std::optional<Seconds> timeout = std::nullopt);

  // Asks to drop a frame, which is still answered: with CANCELLED or its result.
  void Cancel(const std::string& frame_id);

  // Says that no frame follows; Receive ends after the last answer.
  void CloseSending();

  // Ends the stream at once; frames still unanswered come as CANCELLED.
  void Close();

  // The next answer; none when the stream is over and everything was received.
  //
  // Throws Error: DEADLINE_EXCEEDED, nothing came in `timeout`.
  std::optional<Answer> Receive(std::optional<Seconds> timeout = std::nullopt);

  // The notices since the last call, at most the newest 256.
  std::vector<Notice> TakeNotices();

  // Why the stream is over; none while it is not. Its code is kOk after CloseSending and the last
  // answer.
  std::optional<Error> end() const;

  class Impl;
  explicit Stream(std::unique_ptr<Impl> impl);

 private:
  std::unique_ptr<Impl> impl_;
};

class Client {
 public:
  // Does not connect yet. Throws Error (INVALID_ARGUMENT): a token that is no header value, a token
  // without TLS to another machine, or a certificate without key.
  explicit Client(ClientOptions options);
  ~Client();
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  // Every model the server shows, also those that failed to load. Throws Error: the call's status.
  std::vector<ModelInfo> ListModels() const;

  // Throws Error: NOT_FOUND if there is none of that name and version, or the call's status.
  ModelInfo GetModel(const std::string& name, const std::string& version = "") const;

  // Opens a stream and waits until the server has accepted it. Streams may outlive the client.
  //
  // Throws Error: the server refused (NOT_FOUND: no such model), was not reached (UNAVAILABLE) or
  // did not accept in time (DEADLINE_EXCEEDED); INVALID_ARGUMENT: options out of bounds.
  std::unique_ptr<Stream> OpenStream(const std::string& model, StreamOptions options = {}) const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace voxgate
