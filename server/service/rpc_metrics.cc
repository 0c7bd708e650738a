#include "service/rpc_metrics.h"

#include <chrono>
#include <string>

#include "linchpin/v1/compression.pb.h"

namespace linchpin {
namespace {

using grpc::experimental::InterceptionHookPoints;

class RpcCounter final : public grpc::experimental::Interceptor {
 public:
  RpcCounter(Metrics& metrics, std::string path) : metrics_(metrics), path_(std::move(path)) {
    metrics_.RpcStarted(path_);
  }

  void Intercept(grpc::experimental::InterceptorBatchMethods* methods) override {
    if (methods->QueryInterceptionHookPoint(InterceptionHookPoints::PRE_SEND_STATUS)) {
      const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start_;
      metrics_.RpcHandled(path_, methods->GetSendStatus().error_code(), seconds.count());
    }
    methods->Proceed();
  }

 private:
  Metrics& metrics_;
  const std::string path_;
  const std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

class RpcCounterFactory final : public grpc::experimental::ServerInterceptorFactoryInterface {
 public:
  explicit RpcCounterFactory(Metrics& metrics) : metrics_(metrics) {}
  grpc::experimental::Interceptor* CreateServerInterceptor(
      grpc::experimental::ServerRpcInfo* info) override {
    return new RpcCounter(metrics_, info->method());  // gRPC takes it
  }

 private:
  Metrics& metrics_;
};

std::string TypeOf(const google::protobuf::MethodDescriptor& method) {
  if (method.client_streaming()) {
    return method.server_streaming() ? "bidi_stream" : "client_stream";
  }
  return method.server_streaming() ? "server_stream" : "unary";
}

}  // namespace

std::vector<RpcMethod> ServedMethods() {
  std::vector<RpcMethod> methods = {
      {"grpc.health.v1.Health", "Check", "unary"},
      {"grpc.health.v1.Health", "Watch", "server_stream"},
      {"grpc.reflection.v1alpha.ServerReflection", "ServerReflectionInfo", "bidi_stream"},
      {"grpc.reflection.v1.ServerReflection", "ServerReflectionInfo", "bidi_stream"}};
  const auto* file = v1::GetCapabilitiesRequest::descriptor()->file();
  for (int s = 0; s < file->service_count(); ++s) {
    const auto* service = file->service(s);
    for (int m = 0; m < service->method_count(); ++m) {
      const auto& method = *service->method(m);
      methods.push_back(
          {std::string(service->full_name()), std::string(method.name()), TypeOf(method)});
    }
  }
  return methods;
}

std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface> RpcCounting(
    Metrics& metrics) {
  return std::make_unique<RpcCounterFactory>(metrics);
}

}  // namespace linchpin
