#include "service/rpc_server.h"

#include <sys/stat.h>

#include <climits>
#include <utility>

#include "base/status.h"
#include "fmt/format.h"
#include "fmt/ranges.h"
#include "grpcpp/ext/proto_server_reflection_plugin.h"
#include "grpcpp/health_check_service_interface.h"
#include "grpcpp/resource_quota.h"
#include "service/call_gate.h"
#include "service/listen_address.h"
#include "service/rpc_metrics.h"

namespace linchpin {
namespace {

constexpr int kLookaheadBytes = 2 << 20;
constexpr size_t kTransportBytes = size_t{256} << 20;
constexpr int kSecondMs = 1000;
// What gRPC gets to end calls that are over but for their goodbye.
constexpr std::chrono::seconds kGoodbye{2};

// Flow control alone does not protect memory: a connection's window would grow
// with what it seems to carry, so the window is fixed and streams are few.
void Bound(grpc::ServerBuilder& builder, const ConnectionLimits& limits) {
  builder.SetMaxReceiveMessageSize(static_cast<int>(kMaxMessageBytes));
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, limits.max_streams);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, kLookaheadBytes);
  grpc::ResourceQuota quota("linchpin");
  quota.Resize(kTransportBytes);
  builder.SetResourceQuota(quota);
}

void KeepAlive(grpc::ServerBuilder& builder, const ConnectionLimits& limits) {
  const int interval = limits.keepalive_seconds * kSecondMs;
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, interval);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, limits.keepalive_timeout * kSecondMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  // Callers may ask half as often again.
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, interval / 2);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONNECTION_AGE_MS, limits.max_age_seconds * kSecondMs);
  // A job may take as long as it takes.
  builder.AddChannelArgument(GRPC_ARG_MAX_CONNECTION_AGE_GRACE_MS, INT_MAX);
}

absl::Status RefusePlaintext(const ListenAddress& address) {
  return Error(Reason::kOptionInvalid, "--listen " + address.text,
               "it can be reached from other machines and would speak plaintext",
               "give --tls-cert and --tls-key (and --tls-client-ca), or listen on 127.0.0.1 or "
               "unix:/PATH");
}

// What an address speaks.  Without TLS gRPC asks a gate only where it knows
// that the caller is on this machine.
std::shared_ptr<grpc::ServerCredentials> CredentialsFor(
    const ListenAddress& address, const std::shared_ptr<grpc::ServerCredentials>& tls, bool gated) {
  if (!address.is_unix && tls != nullptr) return tls;
  if (!gated) return grpc::InsecureServerCredentials();
  return grpc::experimental::LocalServerCredentials(address.is_unix ? UDS : LOCAL_TCP);
}

// A socket file appears with the mode that the mask leaves it: the owner's alone.
class PrivateFiles {
 public:
  PrivateFiles() : before_(umask(0177)) {}
  ~PrivateFiles() { umask(before_); }

 private:
  const mode_t before_;
};

}  // namespace

absl::Status RpcServer::Listen(const Settings& settings, grpc::ServerBuilder& builder,
                               std::vector<int>& ports) {
  std::shared_ptr<grpc::ServerCredentials> tls;
  if (settings.tls.given()) {
    ASSIGN_OR_RETURN(tls, TlsCredentials(settings.tls));
  }
  const Gate& gate = backend_.gate;
  ports.assign(settings.listen.size(), 0);
  for (size_t i = 0; i < settings.listen.size(); ++i) {
    ASSIGN_OR_RETURN(const ListenAddress address, ListenAddress::Parse(settings.listen[i]));
    const bool plaintext = address.is_unix || tls == nullptr;
    if (plaintext && !address.local()) return RefusePlaintext(address);
    const auto credentials = CredentialsFor(address, tls, gate.active());
    if (gate.active()) {
      credentials->SetAuthMetadataProcessor(GateProcessor(gate, backend_.metrics, address.is_unix));
    }
    builder.AddListeningPort(address.text, credentials, &ports[i]);
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<RpcServer>> RpcServer::Start(const Settings& settings,
                                                            const Backend& backend) {
  grpc::EnableDefaultHealthCheckService(true);
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  std::unique_ptr<RpcServer> result(new RpcServer(backend));
  grpc::ServerBuilder builder;
  std::vector<int> ports;
  RETURN_IF_ERROR(result->Listen(settings, builder, ports));
  Bound(builder, settings.connections);
  KeepAlive(builder, settings.connections);
  // Two servers on one port would each get half of the calls.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  std::vector<std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface>> counting;
  counting.push_back(RpcCounting(backend.metrics));
  builder.experimental().SetInterceptorCreators(std::move(counting));
  builder.RegisterService(&result->service_);
  {
    const PrivateFiles mask;
    result->server_ = builder.BuildAndStart();
  }
  if (result->server_ == nullptr) {
    return Error(Reason::kOptionInvalid,
                 "--listen " + fmt::format("{}", fmt::join(settings.listen, ", ")),
                 "cannot listen there: it is in use, not an address of this machine, or not "
                 "allowed",
                 "choose another address");
  }
  for (size_t i = 0; i < ports.size(); ++i) {
    const std::string& text = settings.listen[i];
    const bool chosen = text.ends_with(":0") && !text.starts_with("unix:");
    result->addresses_.push_back(chosen ? text.substr(0, text.size() - 1) + std::to_string(ports[i])
                                        : text);
  }
  auto* health = result->server_->GetHealthCheckService();
  health->SetServingStatus(v1::CompressionService::service_full_name(), true);
  return result;
}

void RpcServer::Drain(std::chrono::milliseconds patience, std::chrono::milliseconds goodbye) {
  server_->GetHealthCheckService()->SetServingStatus(false);
  backend_.metrics.SetDraining(true);
  backend_.jobs.Drain();
  if (!backend_.jobs.WaitIdle(patience)) {
    backend_.jobs.StopAll();
    backend_.jobs.WaitIdle(kGoodbye);
  }
  server_->Shutdown(std::chrono::system_clock::now() + goodbye);
}

RpcServer::~RpcServer() {
  if (server_ == nullptr) return;
  backend_.jobs.StopAll();
  server_->Shutdown(std::chrono::system_clock::now());
}

}  // namespace linchpin
