#include "client/connection.h"

#include <arpa/inet.h>

#include <algorithm>
#include <chrono>
#include <utility>
#include <vector>

#include "client/call_token.h"
#include "client/errors.h"
#include "client/local_files.h"
#include "grpcpp/create_channel.h"
#include "grpcpp/security/credentials.h"

namespace linchpin {
namespace {

constexpr int kMaxReceivedBytes = 64 << 20;  // a manifest of a very large model, with room
constexpr int kKeepAliveMs = 60'000;
constexpr uint64_t kMaxPemBytes = 4 << 20;

// The host of "host:port", "[host]:port" or "host".
std::string HostOf(std::string_view address) {
  if (!address.empty() && address[0] == '[') {
    return std::string(address.substr(1, address.find(']') - 1));
  }
  return std::string(address.substr(0, address.rfind(':')));
}

bool IsLoopbackAddress(const std::string& host) {
  in_addr v4{};
  if (inet_pton(AF_INET, host.c_str(), &v4) == 1) return (ntohl(v4.s_addr) >> 24) == 127;
  in6_addr v6{};
  return inet_pton(AF_INET6, host.c_str(), &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}

grpc::Status ReadPem(const std::string& path, std::string& text) {
  return path.empty() ? grpc::Status::OK : ReadLocalFile(path, kMaxPemBytes, text);
}

grpc::Status MakeCredentials(const ConnectionOptions& options,
                             std::shared_ptr<grpc::ChannelCredentials>& credentials) {
  const bool tls_named = !options.tls_ca.empty() || !options.tls_cert.empty();
  if (!tls_named && IsLocalEndpoint(options.endpoint)) {
    credentials = grpc::InsecureChannelCredentials();
    return grpc::Status::OK;
  }
  grpc::SslCredentialsOptions ssl;  // empty roots: the system's
  grpc::Status status = ReadPem(options.tls_ca, ssl.pem_root_certs);
  if (status.ok()) status = ReadPem(options.tls_cert, ssl.pem_cert_chain);
  if (status.ok()) status = ReadPem(options.tls_key, ssl.pem_private_key);
  credentials = grpc::SslCredentials(ssl);
  return status;
}

// A token goes only where nobody else can listen: MakeCredentials speaks TLS to
// whatever is not local.
std::shared_ptr<grpc::Channel> MakeChannel(
    const std::string& endpoint, const std::shared_ptr<grpc::ChannelCredentials>& credentials,
    const std::string& token_file = {}) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kMaxReceivedBytes);
  arguments.SetLoadBalancingPolicyName("round_robin");
  // A server whose machine is gone says nothing: its calls end and go elsewhere.
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepAliveMs);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepAliveMs / 3);
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, IsLocalEndpoint(endpoint) ? 0 : 1);
  if (token_file.empty()) return grpc::CreateCustomChannel(endpoint, credentials, arguments);
  std::vector<std::unique_ptr<grpc::experimental::ClientInterceptorFactoryInterface>> senders;
  senders.push_back(SendToken(token_file));
  return grpc::experimental::CreateCustomChannelWithInterceptors(endpoint, credentials, arguments,
                                                                 std::move(senders));
}

}  // namespace

bool IsLocalEndpoint(std::string_view endpoint) {
  if (endpoint.substr(0, 5) == "unix:" || endpoint.substr(0, 14) == "unix-abstract:") return true;
  for (std::string_view prefix : {"dns:///", "dns:", "ipv4:", "ipv6:"}) {
    if (endpoint.substr(0, prefix.size()) == prefix) {
      endpoint.remove_prefix(prefix.size());
      break;
    }
  }
  while (true) {  // of several addresses all must be
    const size_t comma = std::min(endpoint.find(','), endpoint.size());
    const std::string host = HostOf(endpoint.substr(0, comma));
    if (host != "localhost" && !IsLoopbackAddress(host)) return false;
    if (comma == endpoint.size()) return true;
    endpoint.remove_prefix(comma + 1);
  }
}

grpc::Status Connection::Open(const ConnectionOptions& options, const Interrupts& interrupts,
                              std::unique_ptr<Connection>& connection) {
  std::unique_ptr<Connection> made(new Connection);
  grpc::Status status = grpc::Status::OK;
  if (options.endpoint.empty()) {
    status = made->ConnectPrivately(options, interrupts);
  } else {
    std::shared_ptr<grpc::ChannelCredentials> credentials;
    status = MakeCredentials(options, credentials);
    if (status.ok() && !options.token_file.empty()) status = CheckTokenFile(options.token_file);
    made->endpoint_ = options.endpoint;
    if (status.ok()) {
      made->stub_ = v1::CompressionService::NewStub(
          MakeChannel(options.endpoint, credentials, options.token_file));
    }
  }
  if (status.ok()) connection = std::move(made);
  return status;
}

grpc::Status Connection::ConnectPrivately(const ConnectionOptions& options,
                                          const Interrupts& interrupts) {
  std::vector<std::string> more;
  if (!options.push_metrics.empty()) more = {"--push-metrics", options.push_metrics};
  grpc::Status status = PrivateServer::Start(interrupts, more, server_);
  if (!status.ok()) return status;
  endpoint_ = server_->endpoint();
  const auto channel = MakeChannel(endpoint_, grpc::InsecureChannelCredentials());
  const auto deadline = std::chrono::system_clock::now() + std::chrono::seconds(20);
  if (!channel->WaitForConnected(deadline)) {
    return LocalError(grpc::StatusCode::INTERNAL, "INTERNAL", "linchpin-server",
                      "listens but does not answer", "name a running server with --endpoint");
  }
  server_->RemoveSocket();
  stub_ = v1::CompressionService::NewStub(channel);
  return grpc::Status::OK;
}

}  // namespace linchpin
