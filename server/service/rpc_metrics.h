// Counts and times every RPC of every service, at the one place they all pass.
#pragma once

#include <memory>
#include <vector>

#include "grpcpp/support/server_interceptor.h"
#include "metrics/metrics.h"

namespace linchpin {

// Every method that this server answers, health and reflection included.
std::vector<RpcMethod> ServedMethods();

// Interceptors that count into `metrics`, which must outlive the server.
std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface> RpcCounting(
    Metrics& metrics);

}  // namespace linchpin
