// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
//
// The connection and what each call carries.
#pragma once

#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>

#include "voxel_inference.grpc.pb.h"
#include "voxgate_client/client.h"

namespace voxgate {

// Shared by a client and its streams.
struct Connection {
  std::unique_ptr<v1::VoxelInference::Stub> stub;
  std::string target;
  std::string authorization;  // "" or "Bearer …"

  void Authorize(grpc::ClientContext* context) const;
};

// Throws Error (INVALID_ARGUMENT): see Client's constructor.
std::shared_ptr<const Connection> Connect(const ClientOptions& options);

Error ToError(const grpc::Status& status);

// `timeout` from now; what is too long to count is a year.
template <typename Clock>
typename Clock::time_point After(Seconds timeout) {
  const Seconds bounded = std::min(std::max(timeout, Seconds{0}), Seconds{3.2e7});
  return Clock::now() + std::chrono::duration_cast<typename Clock::duration>(bounded);
}

}  // namespace voxgate
