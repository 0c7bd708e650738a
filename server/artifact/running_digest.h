// The digest of a file while it is written through it: it follows as bytes come
// together from the beginning on, read back while they are still in the page cache,
// so that nothing is left to be digested when the last of them is written.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "artifact/digest.h"
#include "base/run_context.h"
#include "storage/storage.h"

namespace linchpin {

// Thread-safe.
class RunningDigest : public WritableFile {
 public:
  // `file`, of `size` bytes, must outlive this.
  RunningDigest(std::string name, uint64_t size, WritableFile& file)
      : name_(std::move(name)), size_(size), file_(file) {}

  // Of the file; what was written is noted, and left to be digested by a call below.
  absl::Status WriteAt(uint64_t offset, absl::Span<const std::byte> bytes) override;
  absl::Status ReadAt(uint64_t offset, absl::Span<std::byte> out) const override {
    return file_.ReadAt(offset, out);
  }
  bool ReadableWhileWritten() const override { return file_.ReadableWhileWritten(); }

  // Bytes [begin, end) stand.  Digests what now follows on what was digested, unless
  // another thread is about it, which then takes this in as well.
  absl::Status Written(uint64_t begin, uint64_t end, const RunContext& context);

  // Digests what other threads write, until all is digested or NoMore was called.  Of
  // a file that cannot be read while it is written, nothing.
  absl::Status Follow(const RunContext& context);
  // Nothing is written any more: lets Follow end.
  void NoMore();

  // All bytes stand and no other thread is in here: digests the rest.  Once.
  absl::StatusOr<FileRecord> Finish(const RunContext& context);

 private:
  // All with mutex_ held.
  void Join(uint64_t begin, uint64_t end);
  bool AnythingNew() const;
  absl::Status DigestNew(std::unique_lock<std::mutex>& lock, const RunContext& context);

  const std::string name_;
  const uint64_t size_;
  WritableFile& file_;
  std::mutex mutex_;
  std::condition_variable changed_;  // for Follow
  bool complete_ = false;
  std::map<uint64_t, uint64_t> written_;  // begin -> end, neither meeting nor touching
  bool busy_ = false;                     // a thread digests
  // Of that thread, or of Finish:
  uint64_t digested_ = 0;
  Sha256 digest_;
};

}  // namespace linchpin
