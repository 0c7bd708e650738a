#include "artifact/running_digest.h"

#include <algorithm>
#include <iterator>

#include "base/status.h"

namespace linchpin {

absl::Status RunningDigest::WriteAt(uint64_t offset, absl::Span<const std::byte> bytes) {
  RETURN_IF_ERROR(file_.WriteAt(offset, bytes));
  const std::lock_guard lock(mutex_);
  Join(offset, offset + bytes.size());
  return absl::OkStatus();
}

absl::Status RunningDigest::Written(uint64_t begin, uint64_t end, const RunContext& context) {
  std::unique_lock lock(mutex_);
  Join(begin, end);
  if (busy_ || !file_.ReadableWhileWritten()) return absl::OkStatus();
  return DigestNew(lock, context);
}

absl::Status RunningDigest::Follow(const RunContext& context) {
  if (!file_.ReadableWhileWritten()) return absl::OkStatus();
  std::unique_lock lock(mutex_);
  while (digested_ < size_) {
    changed_.wait(lock, [this] { return complete_ || (AnythingNew() && !busy_); });
    if (busy_ || !AnythingNew()) break;
    RETURN_IF_ERROR(DigestNew(lock, context));
  }
  return absl::OkStatus();
}

void RunningDigest::NoMore() {
  const std::lock_guard lock(mutex_);
  complete_ = true;
  changed_.notify_all();
}

bool RunningDigest::AnythingNew() const {
  return !written_.empty() && written_.begin()->first == 0 && written_.begin()->second > digested_;
}

absl::Status RunningDigest::DigestNew(std::unique_lock<std::mutex>& lock,
                                      const RunContext& context) {
  absl::Status status;
  while (status.ok() && AnythingNew()) {
    const uint64_t upto = written_.begin()->second;
    busy_ = true;
    lock.unlock();
    status =
        UpdateFrom([this](uint64_t at, absl::Span<std::byte> out) { return file_.ReadAt(at, out); },
                   digested_, upto - digested_, context, digest_);
    lock.lock();
    busy_ = false;
    digested_ = upto;
    changed_.notify_all();
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
  changed_.notify_all();
}

absl::StatusOr<FileRecord> RunningDigest::Finish(const RunContext& context) {
  RETURN_IF_ERROR(
      UpdateFrom([this](uint64_t at, absl::Span<std::byte> out) { return file_.ReadAt(at, out); },
                 digested_, size_ - digested_, context, digest_));
  return FileRecord{name_, size_, digest_.Hex()};
}

}  // namespace linchpin
