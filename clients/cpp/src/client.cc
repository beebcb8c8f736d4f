// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#include "voxgate_client/client.h"

#include <utility>

#include "channel.h"
#include "model_info.h"
#include "stream.h"

namespace voxgate {

class Client::Impl {
 public:
  explicit Impl(ClientOptions options)
      : connection_(std::make_shared<Connection>(std::move(options))) {}

  // Runs one call; throws its status unless that is OK.
  template <typename Call>
  void Run(Call call) const {
    grpc::ClientContext context;
    connection_->Authorize(&context);
    context.set_deadline(After<std::chrono::system_clock>(connection_->options().timeout));
    const grpc::Status status = call(connection_->stub().get(), &context);
    if (!status.ok()) throw ToError(status);
  }

  const std::shared_ptr<const Connection>& connection() const { return connection_; }

 private:
  const std::shared_ptr<const Connection> connection_;
};

Client::Client(ClientOptions options) : impl_(std::make_unique<Impl>(std::move(options))) {}

Client::~Client() = default;

std::vector<ModelInfo> Client::ListModels() const {
  v1::ListModelsResponse response;
  impl_->Run([&](Connection::Stub* stub, grpc::ClientContext* context) {
    return stub->ListModels(context, v1::ListModelsRequest(), &response);
  });
  std::vector<ModelInfo> models;
  for (const v1::ModelInfo& model : response.models()) models.push_back(ParseModel(model));
  return models;
}

ModelInfo Client::GetModel(const std::string& name, const std::string& version) const {
  v1::GetModelRequest request;
  request.set_name(name);
  request.set_version(version);
  v1::ModelInfo response;
  impl_->Run([&](Connection::Stub* stub, grpc::ClientContext* context) {
    return stub->GetModel(context, request, &response);
  });
  return ParseModel(response);
}

std::unique_ptr<Stream> Client::OpenStream(const std::string& model, StreamOptions options) const {
  auto impl = std::make_unique<Stream::Impl>(impl_->connection(), model, std::move(options));
  impl->WaitAccepted(impl_->connection()->options().timeout);
  return std::make_unique<Stream>(std::move(impl));
}

}  // namespace voxgate
