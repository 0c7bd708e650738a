// Everything that stands behind the RPCs.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "identity/gate.h"
#include "jobs/job_runner.h"
#include "jobs/ticker.h"
#include "metrics/metrics.h"
#include "service/engine.h"
#include "storage/scratch.h"
#include "storage/storage.h"

namespace linchpin {

// How often a server's ticker comes by its streams.
inline constexpr std::chrono::milliseconds kTickInterval{100};
inline constexpr uint64_t kChunkBytes = uint64_t{1} << 20;
// A chunk fits four times; the rest is for the framing around it.
inline constexpr uint64_t kMaxMessageBytes = (uint64_t{4} << 20) + (uint64_t{64} << 10);

// References, all of which must outlive the server.
struct Backend {
  const Engine& engine;
  const Storage& storage;  // where paths in calls lead
  JobRunner& jobs;
  Metrics& metrics;
  Ticker& ticker;
  const Gate& gate;
  int threads = 1;  // that one job may use
  uint64_t max_artifact_bytes = uint64_t{1} << 30;
  const Scratch* scratch = nullptr;                 // where artifacts lie; null for memory
  std::vector<std::string> uri_schemes = {"file"};  // that paths in calls may have
  // A stream that stands still for so long, in either direction, is ended.
  std::chrono::milliseconds idle_timeout{60'000};
  // A caller hears something at least so often.
  std::chrono::milliseconds heartbeat{5'000};
};

}  // namespace linchpin
