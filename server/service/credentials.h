// Transport security from certificate files.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "grpcpp/security/server_credentials.h"

namespace linchpin {

// PEM files.  Changed files are taken up within seconds, without a restart.
struct TlsFiles {
  std::string certificate;  // the chain, leaf first
  std::string key;
  std::string client_ca;         // if given, only clients with a certificate from it are served
  unsigned reload_seconds = 10;  // how often to look for a change, >= 1

  bool given() const { return !certificate.empty() || !key.empty() || !client_ca.empty(); }
};

// OPTION_INVALID where a file is missing or does not hold what it must, or the
// key is not the certificate's: gRPC itself would listen and fail every client.
absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> TlsCredentials(const TlsFiles& files);

}  // namespace linchpin
