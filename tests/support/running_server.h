// A server in this process, with an engine of the test's choice, and a channel to it.
#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "google/rpc/error_details.pb.h"
#include "grpcpp/grpcpp.h"
#include "jobs/job_runner.h"
#include "jobs/ticker.h"
#include "linchpin/v1/compression.grpc.pb.h"
#include "metrics/metrics.h"
#include "service/rpc_server.h"
#include "storage/local_storage.h"
#include "tests/support/temporary_directory.h"

namespace linchpin {

struct RunningServerOptions {
  int slots = 1;
  uint64_t memory = 1'000'000;
  uint64_t max_artifact_bytes = 100'000;
  uint64_t scratch = 0;  // bytes; 0 for a server without a scratch directory
  std::chrono::milliseconds idle_timeout{60'000};
  std::chrono::milliseconds heartbeat{5'000};
  std::string listen;  // default: a unix socket in a directory of its own
  TlsFiles tls;
  GateSettings gate;
};

// Reads and writes below root().  EXPECTs that it starts.
class RunningServer {
 public:
  RunningServer(const Engine& engine, const RunningServerOptions& options);

  std::string root() const { return directory_.path() / "root"; }
  std::string scratch_directory() const { return directory_.path(); }
  const std::string& address() const { return server_->addresses().front(); }
  std::shared_ptr<grpc::Channel> channel() const { return channel_; }
  std::unique_ptr<v1::CompressionService::Stub> stub() const {
    return v1::CompressionService::NewStub(channel_);
  }
  RpcServer& server() { return *server_; }
  JobRunner& jobs() { return jobs_; }
  std::string metrics() const { return metrics_.Text(); }
  // The value of the first series whose line starts with `name` and holds `label`.
  double Metric(const std::string& name, const std::string& label = "") const;

 private:
  TemporaryDirectory directory_;
  std::unique_ptr<LocalStorage> storage_;
  Metrics metrics_;
  JobRunner jobs_;
  Ticker ticker_;
  std::unique_ptr<Gate> gate_;
  std::unique_ptr<Scratch> scratch_;  // or null
  Backend backend_;
  std::unique_ptr<RpcServer> server_;
  std::shared_ptr<grpc::Channel> channel_;
};

// What a failed call says of itself.
struct RichError {
  google::rpc::ErrorInfo info;
  std::optional<google::rpc::RetryInfo> retry;
};
RichError RichErrorOf(const grpc::Status& status);

}  // namespace linchpin
