// Adds up the progress of one stage over its threads, and times it.
#pragma once

#include <chrono>
#include <cstdint>
#include <mutex>
#include <string>

#include "base/run_context.h"

namespace linchpin {

// Thread-safe; calls the observer one at a time.
class ProgressMeter {
 public:
  // `total` bytes are to be done; `context` must outlive the meter.
  ProgressMeter(Stage stage, uint64_t total, const RunContext& context);

  // `bytes` more are done, of `item`.
  void Add(const std::string& item, uint64_t bytes);
  void CountTensor(TensorAction action);
  // The stage ended well.
  void Done(uint64_t bytes_read, uint64_t bytes_written);

 private:
  using Clock = std::chrono::steady_clock;

  const RunContext& context_;
  const Clock::time_point begin_ = Clock::now();
  std::mutex mutex_;
  Progress progress_;
};

}  // namespace linchpin
