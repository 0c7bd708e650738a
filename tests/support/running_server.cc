#include "tests/support/running_server.h"

#include <cstdlib>
#include <sstream>

#include "google/rpc/status.pb.h"
#include "gtest/gtest.h"
#include "service/rpc_metrics.h"

namespace linchpin {
namespace {

std::unique_ptr<LocalStorage> StorageBelow(const std::string& root) {
  std::filesystem::create_directory(root);
  auto storage = LocalStorage::Create({.read_roots = {root}, .write_roots = {root}});
  EXPECT_TRUE(storage.ok()) << storage.status();
  return *std::move(storage);
}

std::unique_ptr<Gate> OpenGate(const GateSettings& settings) {
  auto gate = Gate::Create(settings);
  EXPECT_TRUE(gate.ok()) << gate.status();
  return *std::move(gate);
}

}  // namespace

RunningServer::RunningServer(const Engine& engine, const RunningServerOptions& options)
    : storage_(StorageBelow(root())),
      metrics_({engine.version, engine.libtorch_version()}, ServedMethods()),
      jobs_({.slots = options.slots,
             .bytes = options.memory,
             .scratch_bytes = options.scratch,
             .on_change =
                 [this](Room room, uint64_t bytes) {
                   room == Room::kMemory ? metrics_.SetAdmissionReserved(bytes)
                                         : metrics_.SetScratchReserved(bytes);
                 }}),
      ticker_(std::chrono::milliseconds(20)),
      gate_(OpenGate(options.gate)),
      scratch_(options.scratch == 0 ? nullptr : *Scratch::Create(scratch_directory())),
      backend_{.engine = engine,
               .storage = *storage_,
               .jobs = jobs_,
               .metrics = metrics_,
               .ticker = ticker_,
               .gate = *gate_,
               .threads = 1,
               .max_artifact_bytes = options.max_artifact_bytes,
               .scratch = scratch_.get(),
               .idle_timeout = options.idle_timeout,
               .heartbeat = options.heartbeat} {
  const std::string address =
      options.listen.empty() ? "unix:" + (directory_.path() / "socket").string() : options.listen;
  auto server = RpcServer::Start({.listen = {address}, .tls = options.tls}, backend_);
  EXPECT_TRUE(server.ok()) << server.status();
  server_ = *std::move(server);
  channel_ = grpc::CreateChannel(server_->addresses().front(), grpc::InsecureChannelCredentials());
}

double RunningServer::Metric(const std::string& name, const std::string& label) const {
  std::istringstream lines(metrics_.Text());
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with(name) && line.find(label) != std::string::npos) {
      return std::strtod(line.c_str() + line.rfind(' '), nullptr);
    }
  }
  ADD_FAILURE() << "no metric " << name << " with " << label;
  return -1;
}

RichError RichErrorOf(const grpc::Status& status) {
  google::rpc::Status rich;
  EXPECT_TRUE(rich.ParseFromString(status.error_details()));
  EXPECT_EQ(rich.code(), static_cast<int>(status.error_code()));
  EXPECT_EQ(rich.message(), status.error_message());
  RichError result;
  for (const auto& detail : rich.details()) {
    google::rpc::RetryInfo retry;
    if (detail.UnpackTo(&retry)) result.retry = retry;
    if (detail.Is<google::rpc::ErrorInfo>()) detail.UnpackTo(&result.info);
  }
  return result;
}

}  // namespace linchpin
