// The bearer token that goes with every call of a channel.
#pragma once

#include <memory>
#include <string>

#include "grpcpp/support/client_interceptor.h"
#include "grpcpp/support/status.h"

namespace linchpin {

// Whether the file holds one token: an error naming it otherwise.
grpc::Status CheckTokenFile(const std::string& path);

// Adds `authorization: Bearer TOKEN`.  The file is read for every call, since
// whoever issues short-lived tokens replaces it.  For channels that nobody else
// can listen to.
std::unique_ptr<grpc::experimental::ClientInterceptorFactoryInterface> SendToken(std::string path);

}  // namespace linchpin
