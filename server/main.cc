// linchpin-server: options -> storage -> jobs -> metrics -> service, then waits
// to be told to go.
#include <malloc.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <iostream>

#include "fmt/format.h"
#include "forward/libtorch_module.h"
#include "jobs/job_runner.h"
#include "jobs/ticker.h"
#include "metrics/metrics.h"
#include "metrics/metrics_endpoint.h"
#include "metrics/push.h"
#include "options.h"
#include "service/rpc_metrics.h"
#include "service/rpc_server.h"
#include "shutdown_signal.h"
#include "spdlog/sinks/stdout_sinks.h"
#include "spdlog/spdlog.h"
#include "storage/remote_stores.h"

namespace linchpin {
namespace {

// glibc makes up to eight arenas per core and gives back only the top of each: a
// thousand jobs in ever other threads leave holes in all of them.  Few arenas,
// trimmed after every job (jobs/job_runner.cc), stay as they are after the first.
constexpr int kMallocArenas = 4;
// Between two messages of a stream freed memory stays at hand: taking it from the system
// anew for each costs more than all else that gRPC does.  After the job it goes back.
constexpr int kKeptFreeBytes = 32 << 20;

// What jobs may reserve in the scratch directory.
uint64_t ScratchBytes(const ServerOptions& options, const Scratch* scratch) {
  if (scratch == nullptr) return 0;
  return options.max_scratch != 0 ? options.max_scratch : scratch->free_bytes();
}

// A server that stays has LibTorch loaded before it listens, so that no job waits for
// it and nothing is told that is not so; one for a single command waits until that
// command needs it.
void LoadBeforeJobs(const ServerOptions& options) {
  if (options.exit_with_fd >= 0) return;
  const absl::Status status = LoadLibTorch().status();
  if (!status.ok()) spdlog::error("{}", std::string(status.message()));
}

absl::Status Serve(const ServerOptions& options, ShutdownSignal& signal) {
  ASSIGN_OR_RETURN(const auto gate, Gate::Create(options.gate));
  LoadBeforeJobs(options);
  const Engine engine = PipelineEngine();
  Metrics metrics({engine.version, engine.libtorch_version()}, ServedMethods());
  ASSIGN_OR_RETURN(const auto storage,
                   OpenStores(options.storage, options.remote,
                              [&metrics](std::string_view scheme, int http_status) {
                                metrics.UpstreamRequest(scheme, http_status);
                              }));
  std::unique_ptr<MetricsEndpoint> endpoint;
  if (options.metrics != "off") {
    ASSIGN_OR_RETURN(endpoint, MetricsEndpoint::Create(options.metrics, metrics));
  }
  std::unique_ptr<MetricsPush> push;
  if (!options.push_metrics.empty()) {
    ASSIGN_OR_RETURN(push, MetricsPush::Create(options.push_metrics, metrics));
  }
  std::unique_ptr<Scratch> scratch;
  if (!options.scratch_dir.empty()) {
    ASSIGN_OR_RETURN(scratch, Scratch::Create(options.scratch_dir));
  }
  const uint64_t scratch_bytes = ScratchBytes(options, scratch.get());
  metrics.SetAdmissionLimit(options.max_memory);
  metrics.SetScratchLimit(scratch_bytes);
  JobRunner jobs({.slots = options.slots,
                  .bytes = options.max_memory,
                  .scratch_bytes = scratch_bytes,
                  .on_change = [&](Room room, uint64_t bytes) {
                    room == Room::kMemory ? metrics.SetAdmissionReserved(bytes)
                                          : metrics.SetScratchReserved(bytes);
                  }});
  Ticker ticker(kTickInterval);
  const Backend backend{.engine = engine,
                        .storage = *storage,
                        .jobs = jobs,
                        .metrics = metrics,
                        .ticker = ticker,
                        .gate = *gate,
                        .threads = options.threads,
                        .max_artifact_bytes = options.max_artifact_bytes,
                        .scratch = scratch.get(),
                        .uri_schemes = storage->schemes(),
                        .idle_timeout = std::chrono::seconds(options.idle_seconds)};
  ASSIGN_OR_RETURN(const auto server, RpcServer::Start({.listen = options.listen,
                                                        .tls = options.tls,
                                                        .connections = options.connections},
                                                       backend));
  const std::string where = fmt::format("{}", fmt::join(server->addresses(), " "));
  spdlog::info("linchpin-server {} listens on {}, metrics {}, {} slots, {} threads, {} bytes",
               engine.version, where, endpoint ? endpoint->address() : "off", options.slots,
               options.threads, options.max_memory);
  signal.TellReady(where);
  spdlog::info("draining: {}", signal.Wait());
  const std::chrono::seconds goodbye(options.exit_with_fd < 0 ? 2 : 0);
  server->Drain(std::chrono::seconds(options.drain_seconds), goodbye);
  if (push != nullptr) {
    const absl::Status status = push->Push();
    if (!status.ok()) spdlog::warn("metrics: {}", std::string(status.message()));
  }
  scratch.reset();
  spdlog::info("done");
  // All work is over and nothing is kept in memory.  gRPC's own teardown would
  // wait for its backup poller, up to ten seconds after a large upload.
  spdlog::shutdown();
  std::_Exit(EXIT_SUCCESS);
}

int Run(int argc, const char* const* argv) {
  const ParsedOptions parsed = ParseServerOptions(argc, argv);
  if (parsed.exit_code) {
    (*parsed.exit_code == 0 ? std::cout : std::cerr) << parsed.text;
    return *parsed.exit_code;
  }
  spdlog::set_default_logger(spdlog::stderr_logger_mt("linchpin"));
  spdlog::set_pattern("%Y-%m-%dT%H:%M:%S.%e%z %l %v");
  spdlog::set_level(spdlog::level::from_str(parsed.options.log_level));
  ShutdownSignal signal(parsed.options.exit_with_fd, parsed.options.ready_fd);
  const absl::Status status = Serve(parsed.options, signal);
  if (status.ok()) return EXIT_SUCCESS;
  std::cerr << "error: " << std::string(status.message()) << " [" << InfoOf(ReasonOf(status)).name
            << "]\n";
  return EXIT_FAILURE;
}

}  // namespace
}  // namespace linchpin

int main(int argc, char** argv) try {
  mallopt(M_ARENA_MAX, linchpin::kMallocArenas);
  mallopt(M_TRIM_THRESHOLD, linchpin::kKeptFreeBytes);
  mallopt(M_MMAP_THRESHOLD, linchpin::kKeptFreeBytes);
  return linchpin::Run(argc, argv);
} catch (const std::exception& exception) {
  // What nothing foresees, as memory that runs out before a call is served; calls
  // have handlers of their own.
  std::fprintf(stderr, "error: %s\n", exception.what());
  std::_Exit(EXIT_FAILURE);
}
