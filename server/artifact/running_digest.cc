#include "artifact/running_digest.h"

#include <algorithm>
#include <iterator>

#include "base/status.h"

namespace linchpin {

absl::Status RunningDigest::Written(uint64_t begin, uint64_t end, const RunContext& context) {
  std::unique_lock lock(mutex_);
  Join(begin, end);
  if (busy_ || !file_.ReadableWhileWritten()) return absl::OkStatus();
  absl::Status status;
  while (status.ok() && !written_.empty() && written_.begin()->first == 0 &&
         written_.begin()->second > digested_) {
    const uint64_t upto = written_.begin()->second;
    busy_ = true;
    lock.unlock();
    status =
        UpdateFrom([this](uint64_t at, absl::Span<std::byte> out) { return file_.ReadAt(at, out); },
                   digested_, upto - digested_, context, digest_);
    lock.lock();
    busy_ = false;
    digested_ = upto;
  }
  return status;
}

void RunningDigest::Join(uint64_t begin, uint64_t end) {
  if (begin >= end) return;
  auto next = written_.upper_bound(begin);
  if (next != written_.begin() && std::prev(next)->second >= begin) {
    --next;
    begin = next->first;
  }
  while (next != written_.end() && next->first <= end) {
    end = std::max(end, next->second);
    next = written_.erase(next);
  }
  written_[begin] = end;
}

absl::StatusOr<FileRecord> RunningDigest::Finish(const RunContext& context) {
  RETURN_IF_ERROR(
      UpdateFrom([this](uint64_t at, absl::Span<std::byte> out) { return file_.ReadAt(at, out); },
                 digested_, size_ - digested_, context, digest_));
  return FileRecord{name_, size_, digest_.Hex()};
}

}  // namespace linchpin
