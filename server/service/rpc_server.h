// The gRPC server: where it listens, what it bounds, how it goes down.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "grpcpp/grpcpp.h"
#include "service/backend.h"
#include "service/compression_service.h"
#include "service/connection_limits.h"
#include "service/credentials.h"

namespace linchpin {

class RpcServer {
 public:
  struct Settings {
    std::vector<std::string> listen;  // as ListenAddress::Parse takes them, one or more
    TlsFiles tls;  // for every address but unix sockets; needed where others can reach it
    ConnectionLimits connections;
  };

  // Listens and serves at once.  OPTION_INVALID for an address that cannot be
  // listened on, or where plaintext would leave the machine.
  static absl::StatusOr<std::unique_ptr<RpcServer>> Start(const Settings& settings,
                                                          const Backend& backend);
  ~RpcServer();

  // Where it listens, with the ports that were chosen for port 0.
  const std::vector<std::string>& addresses() const { return addresses_; }

  // Goes down in order: health says NOT_SERVING and new jobs are refused; what
  // runs may finish for `patience`; the rest is stopped.  Answers on their way,
  // and connections that stay open, get `goodbye` more; none where the only
  // caller has gone.  Blocks.
  void Drain(std::chrono::milliseconds patience,
             std::chrono::milliseconds goodbye = std::chrono::seconds(2));

 private:
  explicit RpcServer(const Backend& backend) : backend_(backend), service_(backend) {}
  absl::Status Listen(const Settings& settings, grpc::ServerBuilder& builder,
                      std::vector<int>& ports);

  const Backend& backend_;
  CompressionService service_;
  std::vector<std::string> addresses_;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace linchpin
