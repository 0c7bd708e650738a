// The digest of a file while it is written: it follows as bytes come together from
// the beginning on, read back while they are still in the page cache, so that
// nothing is left to be digested when the last of them is written.
#pragma once

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
class RunningDigest {
 public:
  // `file`, of `size` bytes, must outlive this.
  RunningDigest(std::string name, uint64_t size, const WritableFile& file)
      : name_(std::move(name)), size_(size), file_(file) {}

  // Bytes [begin, end) stand.  Digests what now follows on what was digested, unless
  // another thread is about it, which then takes this in as well.
  absl::Status Written(uint64_t begin, uint64_t end, const RunContext& context);

  // All bytes stand and no other thread is in here: digests the rest.  Once.
  absl::StatusOr<FileRecord> Finish(const RunContext& context);

 private:
  void Join(uint64_t begin, uint64_t end);  // with mutex_ held

  const std::string name_;
  const uint64_t size_;
  const WritableFile& file_;
  std::mutex mutex_;
  std::map<uint64_t, uint64_t> written_;  // begin -> end, neither meeting nor touching
  bool busy_ = false;                     // a thread digests
  // Of that thread, or of Finish:
  uint64_t digested_ = 0;
  Sha256 digest_;
};

}  // namespace linchpin
