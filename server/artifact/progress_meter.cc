#include "artifact/progress_meter.h"

namespace linchpin {

ProgressMeter::ProgressMeter(Stage stage, uint64_t total, const RunContext& context)
    : context_(context), progress_{.stage = stage, .total = total} {}

void ProgressMeter::Add(const std::string& item, uint64_t bytes) {
  const std::lock_guard lock(mutex_);
  progress_.item = item;
  progress_.done += bytes;
  context_.Report(progress_);
}

void ProgressMeter::CountTensor(TensorAction action) {
  const std::lock_guard lock(mutex_);
  if (context_.observer != nullptr) context_.observer->OnTensor(action);
}

void ProgressMeter::Done(uint64_t bytes_read, uint64_t bytes_written) {
  const std::chrono::duration<double> taken = Clock::now() - begin_;
  const std::lock_guard lock(mutex_);
  if (context_.observer == nullptr) return;
  context_.observer->OnStageDone(progress_.stage, taken.count(), bytes_read, bytes_written);
}

}  // namespace linchpin
