// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// The connection and what each call carries.
#pragma once

#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <string>

#include "voxel_inference.grpc.pb.h"
#include "voxgate_client/client.h"

namespace voxgate {

// Shared by a client and its streams.
class Connection {
 public:
  using Stub = v1::VoxelInference::Stub;

  // Throws Error (INVALID_ARGUMENT): see Client's constructor.
  explicit Connection(ClientOptions options);

  // The client's own channel.
  const std::shared_ptr<Stub>& stub() const { return stub_; }
  // A channel that shares no connection and no waiting for one with others: a stream that moves
  // from a draining server must not come out at the same one.
  std::shared_ptr<Stub> NewStub() const { return MakeStub(true); }

  const ClientOptions& options() const { return options_; }
  void Authorize(grpc::ClientContext* context) const;

 private:
  std::shared_ptr<Stub> MakeStub(bool own_connection) const;

  const ClientOptions options_;
  const std::shared_ptr<Stub> stub_;
};

Error ToError(const grpc::Status& status);

// `timeout` from now; what is too long to count is a year.
template <typename Clock>
typename Clock::time_point After(Seconds timeout) {
  const Seconds bounded = std::min(std::max(timeout, Seconds{0}), Seconds{3.2e7});
  return Clock::now() + std::chrono::duration_cast<typename Clock::duration>(bounded);
}

}  // namespace voxgate
