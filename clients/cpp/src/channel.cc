// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#include "channel.h"

#include <algorithm>
#include <utility>

#include "text.h"

namespace voxgate {
namespace {

grpc::ChannelArguments Arguments(const ClientOptions& options) {
  grpc::ChannelArguments arguments;
  // A frame's size is checked before it is sent, by the server's own limit and with its name.
  arguments.SetMaxSendMessageSize(-1);
  arguments.SetMaxReceiveMessageSize(options.max_answer_bytes);
  // A vehicle that changes networks loses its peer without a FIN: found within 30 s.
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 10'000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 15'000);
  // What ends the wait in gRPC from 1.60 on, whose default is a minute, whatever the line above.
  arguments.SetInt("grpc.http2.ping_timeout_ms", 15'000);
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 0);
  // gRPC's default pauses grow to two minutes, long after a vehicle is back in coverage.
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 5'000);  // one attempt's time
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 2'000);
  return arguments;
}

bool StartsWith(const std::string& text, const std::string& start) {
  return text.compare(0, start.size(), start) == 0;
}

bool IsThisMachine(std::string target) {
  if (StartsWith(target, "unix:")) return true;
  for (const char* scheme : {"dns:///", "dns:", "ipv4:", "ipv6:"}) {
    if (StartsWith(target, scheme)) {
      target.erase(0, std::string(scheme).size());
      break;
    }
  }
  if (StartsWith(target, "[")) return StartsWith(target, "[::1]");
  const std::string host = target.substr(0, target.rfind(':'));
  const bool is_address =
      StartsWith(host, "127.") && host.find_first_not_of("0123456789.") == std::string::npos;
  return host == "localhost" || is_address;
}

// gRPC ends the process on a header value with other bytes.
void CheckToken(const ClientOptions& options) {
  const bool plain = std::all_of(options.token.begin(), options.token.end(),
                                 [](char c) { return c > ' ' && c <= '~'; });
  if (!plain) {
    ThrowInvalid("the token has a space, a line end or another byte that is no printable ASCII");
  }
  if (!options.token.empty() && !options.tls.has_value() && !options.insecure_token &&
      !IsThisMachine(options.target)) {
    ThrowInvalid("a token for ", options.target,
                 " would cross the network unencrypted: use TLS, or allow it with insecure_token "
                 "(--insecure-token)");
  }
}

std::shared_ptr<grpc::ChannelCredentials> Credentials(const ClientOptions& options) {
  if (!options.tls.has_value()) return grpc::InsecureChannelCredentials();
  const TlsOptions& tls = *options.tls;
  if (tls.certificate.empty() != tls.key.empty()) {
    ThrowInvalid("a client certificate needs its key and a key its certificate: one is missing");
  }
  return grpc::SslCredentials({tls.root_certificates, tls.key, tls.certificate});
}

}  // namespace

Connection::Connection(ClientOptions options)
    : options_(std::move(options)), stub_(MakeStub(false)) {}

std::shared_ptr<Connection::Stub> Connection::MakeStub(bool own_connection) const {
  if (options_.target.empty()) ThrowInvalid("the target is empty, expected host:port");
  CheckToken(options_);
  grpc::ChannelArguments arguments = Arguments(options_);
  if (own_connection) arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  if (options_.tls.has_value() && !options_.tls->server_name.empty()) {
    arguments.SetSslTargetNameOverride(options_.tls->server_name);
  }
  return v1::VoxelInference::NewStub(
      grpc::CreateCustomChannel(options_.target, Credentials(options_), arguments));
}

void Connection::Authorize(grpc::ClientContext* context) const {
  if (options_.token.empty()) return;
  context->AddMetadata("authorization", "Bearer " + options_.token);
}

Error ToError(const grpc::Status& status) {
  const std::string& message = status.error_message();
  return {StatusCodeOf(status.error_code()), message.empty() ? "no details given" : message};
}

}  // namespace voxgate
