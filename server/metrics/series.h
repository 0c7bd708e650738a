// Every time series of the server, made once at the start: the table of metrics.
#pragma once

#include <array>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "metrics/labels.h"
#include "metrics/metrics.h"
#include "prometheus/counter.h"
#include "prometheus/gauge.h"
#include "prometheus/histogram.h"
#include "prometheus/registry.h"

namespace linchpin {

// The pointers belong to the registry and live as long as it does.
struct Metrics::Series {
  Series(const Build& build, const std::vector<RpcMethod>& methods);

  struct Rpc {
    prometheus::Counter* started = nullptr;
    std::vector<prometheus::Counter*> handled;  // by status code
    prometheus::Histogram* seconds = nullptr;
  };

  std::shared_ptr<prometheus::Registry> registry = std::make_shared<prometheus::Registry>();

  std::array<std::array<prometheus::Counter*, kJobResultCount>, kJobKindCount> jobs{};
  std::array<prometheus::Gauge*, kJobKindCount> jobs_in_progress{};
  std::array<prometheus::Histogram*, kStageCount> stage_seconds{};
  std::array<prometheus::Counter*, kStageCount> stage_read{};
  std::array<prometheus::Counter*, kStageCount> stage_written{};
  std::array<prometheus::Counter*, kTensorActionCount> tensors{};
  prometheus::Counter* super_weights = nullptr;
  prometheus::Histogram* compression_ratio = nullptr;
  prometheus::Gauge* admission_reserved = nullptr;
  prometheus::Gauge* admission_limit = nullptr;
  prometheus::Gauge* scratch_reserved = nullptr;
  prometheus::Gauge* scratch_limit = nullptr;
  std::map<Reason, prometheus::Counter*> reasons;
  std::map<std::string_view, std::vector<prometheus::Counter*>> upstream;  // by scheme and class
  prometheus::Gauge* last_success = nullptr;
  prometheus::Gauge* draining = nullptr;
  std::map<std::string, Rpc, std::less<>> rpcs;  // by "/service/method"

 private:
  void AddJobs();
  void AddStages();
  void AddReasons();
  void AddUpstream();
  void AddServer(const Build& build);
  void AddRpcs(const std::vector<RpcMethod>& methods);
};

}  // namespace linchpin
