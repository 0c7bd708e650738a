// What the server counts and measures, and the text that Prometheus reads.
//
// Every combination of labels stands at zero from the start, so that a rate
// over the first failure is not lost.  The table of metrics is in series.cc.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/run_context.h"
#include "metrics/labels.h"

namespace linchpin {

// Thread-safe.
class Metrics {
 public:
  struct Build {
    std::string version;
    std::string libtorch;  // empty where it is missing: no forward pass can be run then
  };

  Metrics(const Build& build, const std::vector<RpcMethod>& methods);
  ~Metrics();
  Metrics(const Metrics&) = delete;
  Metrics& operator=(const Metrics&) = delete;

  void JobStarted(JobKind kind);
  // A job that JobStarted counted is over; a success sets the time of the last one.
  void JobFinished(JobKind kind, JobResult result);
  // A job that never started.
  void JobRefused(JobKind kind);
  // Counts the reason of a failed call where it is a CountedReason.
  void CountReason(Reason reason);

  void StageDone(Stage stage, double seconds, uint64_t read, uint64_t written);
  void TensorDone(TensorAction action);
  void SuperWeightsDetected(int64_t count);
  // Bytes in over bytes out; nothing if out is 0.
  void Compressed(uint64_t bytes_in, uint64_t bytes_out);

  // One request to a store: its scheme, and the HTTP status, 0 where none came.
  void UpstreamRequest(std::string_view scheme, int http_status);

  void SetAdmissionReserved(uint64_t bytes);
  void SetAdmissionLimit(uint64_t bytes);
  void SetScratchReserved(uint64_t bytes);
  void SetScratchLimit(uint64_t bytes);
  void SetDraining(bool draining);

  // `path` as gRPC gives it, "/package.Service/Method"; an unknown one is left out.
  void RpcStarted(std::string_view path);
  void RpcHandled(std::string_view path, int code, double seconds);

  // The exposition text of everything above and of the process.
  std::string Text() const;

 private:
  friend class MetricsEndpoint;
  friend class MetricsPush;
  struct Series;

  std::unique_ptr<Series> series_;
};

}  // namespace linchpin
