// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// A server in this process that a test tells what to do on each call.
#pragma once

#include <grpcpp/grpcpp.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

#include "check.h"
#include "voxel_inference.grpc.pb.h"
#include "voxgate_client/client.h"

namespace voxgate {

// Long enough that a loaded machine does not fail a test, short enough that a hang is seen.
constexpr Seconds kLimit{20};

// One call on the server: what the client sends is read, and answers are written.
class ServerCall {
 public:
  using Stream = grpc::ServerReaderWriter<v1::StreamResponse, v1::StreamRequest>;

  ServerCall(int its_number, Stream* its_stream, grpc::ServerContext* its_context)
      : number(its_number), stream(its_stream), context(its_context) {}

  void Accept(uint64_t max_frame_bytes = 0) {
    v1::StreamRequest request;
    CHECK(stream->Read(&request) && request.has_open());
    open = request.open();
    v1::StreamResponse response;
    response.mutable_opened()->mutable_model()->set_name(open.model());
    response.mutable_opened()->mutable_model()->set_version(std::to_string(number));
    response.mutable_opened()->set_max_frame_bytes(max_frame_bytes);
    stream->Write(response);
  }

  // The next message; "" when the client sends no more.
  std::string Next() {
    v1::StreamRequest request;
    if (!stream->Read(&request)) return "";
    return request.has_frame() ? request.frame().frame_id() : "cancel " + request.cancel_frame_id();
  }

  void Answer(const std::string& frame_id) {
    v1::StreamResponse response;
    response.mutable_result()->set_frame_id(frame_id);
    response.mutable_result()->set_version(std::to_string(number));
    stream->Write(response);
  }

  void Fail(const std::string& frame_id, StatusCode code) {
    v1::StreamResponse response;
    response.mutable_error()->set_frame_id(frame_id);
    response.mutable_error()->set_code(static_cast<int>(code));
    response.mutable_error()->set_message("because");
    stream->Write(response);
  }

  void Drain() {
    v1::StreamResponse response;
    response.mutable_notice()->set_kind(v1::ServerNotice::DRAINING);
    stream->Write(response);
  }

  void AnswerAll() {
    for (std::string id = Next(); !id.empty(); id = Next()) Answer(id);
  }

  const int number;  // 1 is the first
  Stream* const stream;
  grpc::ServerContext* const context;
  v1::StreamOpen open;
};

using Script = std::function<grpc::Status(ServerCall&)>;

class Server : public v1::VoxelInference::Service {
 public:
  explicit Server(Script script) : script_(std::move(script)) {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port_);
    builder.SetMaxReceiveMessageSize(-1);
    builder.RegisterService(this);
    server_ = builder.BuildAndStart();
    CHECK(server_ != nullptr);
  }

  ~Server() override { server_->Shutdown(std::chrono::system_clock::now()); }

  Client MakeClient() const { return Client(Options()); }

  ClientOptions Options() const {
    ClientOptions options;
    options.target = "127.0.0.1:" + std::to_string(port_);
    options.timeout = kLimit;
    return options;
  }

  grpc::Status StreamInfer(grpc::ServerContext* context, ServerCall::Stream* stream) override {
    ServerCall call(++calls_, stream, context);
    return script_(call);
  }

 private:
  const Script script_;
  std::atomic<int> calls_{0};
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
};

// Something one thread waits for and another does.
class Event {
 public:
  void Set() {
    const std::lock_guard lock(mutex_);
    set_ = true;
    changed_.notify_all();
  }
  void Wait() {
    std::unique_lock lock(mutex_);
    CHECK(changed_.wait_for(lock, kLimit, [this] { return set_; }));
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool set_ = false;
};

}  // namespace voxgate
