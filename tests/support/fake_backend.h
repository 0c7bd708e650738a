// A backend without a server: a fake engine, one slot, memory for storage.
#pragma once

#include <chrono>

#include "jobs/job_runner.h"
#include "jobs/ticker.h"
#include "metrics/metrics.h"
#include "service/backend.h"
#include "storage/memory_storage.h"
#include "tests/support/fake_engine.h"

namespace linchpin {

struct FakeBackend {
  FakeEngine engine;
  MemoryStorage storage;
  Metrics metrics{{"1", "2"}, {}};
  JobRunner jobs{{.slots = 1, .bytes = 1'000'000}};
  Ticker ticker{std::chrono::milliseconds(10)};
  std::unique_ptr<Gate> gate = *Gate::Create({});
  Backend backend{.engine = engine.engine(),
                  .storage = storage,
                  .jobs = jobs,
                  .metrics = metrics,
                  .ticker = ticker,
                  .gate = *gate,
                  .threads = 3,
                  .max_artifact_bytes = 100'000};
};

}  // namespace linchpin
