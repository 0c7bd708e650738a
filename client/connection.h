// The connection to a server: the one named with --endpoint, or a private one.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "client/command_line.h"
#include "client/interrupts.h"
#include "client/private_server.h"
#include "grpcpp/channel.h"
#include "linchpin/v1/compression.grpc.pb.h"

namespace linchpin {

// True for unix sockets and loopback addresses, where plaintext stays on this
// machine: "unix:...", "localhost:1", "127.0.0.1:1", "[::1]:1", with or without
// a resolver's prefix ("dns:///", "ipv4:", "ipv6:"); of a list of addresses all
// must be.
bool IsLocalEndpoint(std::string_view endpoint);

class Connection {
 public:
  // Plaintext to a local endpoint, TLS elsewhere and wherever a TLS file is
  // given.  Without an endpoint, starts a private server first.
  static grpc::Status Open(const ConnectionOptions& options, const Interrupts& interrupts,
                           std::unique_ptr<Connection>& connection);

  v1::CompressionService::Stub& stub() { return *stub_; }
  // Ends a private server, and with it what it was doing.
  void EndServer() { server_.reset(); }
  // What an error of the connection itself names.
  const std::string& endpoint() const { return endpoint_; }

 private:
  Connection() = default;
  grpc::Status ConnectPrivately(const ConnectionOptions& options, const Interrupts& interrupts);

  std::string endpoint_;
  std::unique_ptr<PrivateServer> server_;  // outlives the channel below
  std::unique_ptr<v1::CompressionService::Stub> stub_;
};

}  // namespace linchpin
