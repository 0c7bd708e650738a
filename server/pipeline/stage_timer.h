// Tells the observer how long a stage took.
#pragma once

#include <chrono>
#include <cstdint>

#include "base/run_context.h"

namespace linchpin {

// Starts at construction; a stage that fails is never reported.
class StageTimer {
 public:
  StageTimer(Stage stage, const RunContext& context) : stage_(stage), context_(context) {}

  void Done(uint64_t bytes_read, uint64_t bytes_written) const {
    if (context_.observer == nullptr) return;
    const std::chrono::duration<double> taken = Clock::now() - begin_;
    context_.observer->OnStageDone(stage_, taken.count(), bytes_read, bytes_written);
  }

 private:
  using Clock = std::chrono::steady_clock;

  Stage stage_;
  const RunContext& context_;
  Clock::time_point begin_ = Clock::now();
};

}  // namespace linchpin
