#include "service/call_gate.h"

#include <string>
#include <utility>

#include "base/status.h"
#include "fmt/format.h"
#include "grpc/grpc_security_constants.h"
#include "linchpin/v1/compression.grpc.pb.h"
#include "service/status_conversion.h"

namespace linchpin {
namespace {

constexpr char kAuthorization[] = "authorization";
constexpr char kPath[] = ":path";
constexpr char kTraceParent[] = "traceparent";

// "/package.Service/"
const std::string& OurService() {
  static const std::string prefix =
      fmt::format("/{}/", v1::CompressionService::service_full_name());
  return prefix;
}

std::string Text(const grpc::string_ref& text) { return std::string(text.data(), text.size()); }

template <class Metadata>
Presented PresentedBy(const grpc::AuthContext* context, const Metadata& metadata,
                      bool unix_socket) {
  Presented presented{.unix_socket = unix_socket};
  if (context != nullptr) {
    for (const auto& name : context->FindPropertyValues(GRPC_X509_SAN_PROPERTY_NAME)) {
      presented.names.push_back(Text(name));
    }
  }
  const auto [first, last] = metadata.equal_range(kAuthorization);
  for (auto value = first; value != last; ++value) {
    presented.authorizations.push_back(Text(value->second));
  }
  return presented;
}

class Processor final : public grpc::AuthMetadataProcessor {
 public:
  Processor(const Gate& gate, Metrics& metrics, bool unix_socket)
      : gate_(gate), metrics_(metrics), unix_socket_(unix_socket) {}

  bool IsBlocking() const override { return false; }

  grpc::Status Process(const InputMetadata& metadata, grpc::AuthContext* context,
                       OutputMetadata* /*consumed*/, OutputMetadata* /*response*/) override {
    const auto path = metadata.find(kPath);
    const std::string method = path == metadata.end() ? std::string() : Text(path->second);
    if (method.starts_with(OurService())) return grpc::Status::OK;  // it asks OriginOf
    const absl::Status status = gate_.Check(method, PresentedBy(context, metadata, unix_socket_));
    if (status.ok()) return grpc::Status::OK;
    metrics_.CountReason(ReasonOf(status));
    return ToGrpcStatus(status);
  }

 private:
  const Gate& gate_;
  Metrics& metrics_;
  const bool unix_socket_;
};

}  // namespace

std::shared_ptr<grpc::AuthMetadataProcessor> GateProcessor(const Gate& gate, Metrics& metrics,
                                                           bool unix_socket) {
  return std::make_shared<Processor>(gate, metrics, unix_socket);
}

absl::StatusOr<CallOrigin> OriginOf(const grpc::ServerContextBase& context, const Backend& backend,
                                    std::string_view rpc) {
  const auto& metadata = context.client_metadata();
  const bool unix_socket = context.peer().starts_with("unix:");
  const Presented presented = PresentedBy(context.auth_context().get(), metadata, unix_socket);
  absl::StatusOr<Caller> caller = backend.gate.Admit(rpc, presented);
  if (!caller.ok()) {
    backend.metrics.CountReason(ReasonOf(caller.status()));
    return caller.status();
  }
  CallOrigin origin{.caller = *std::move(caller)};
  const auto trace = metadata.find(kTraceParent);
  if (trace != metadata.end()) origin.trace = TraceOf(Text(trace->second));
  return origin;
}

}  // namespace linchpin
