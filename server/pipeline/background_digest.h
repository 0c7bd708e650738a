// Digests of a source, taken beside the work on it, which leaves the disk mostly
// idle.
#pragma once

#include <functional>
#include <future>
#include <optional>
#include <stop_token>
#include <vector>

#include "absl/status/statusor.h"
#include "artifact/digest.h"
#include "base/run_context.h"

namespace linchpin {

// Silent: progress is for the work to report.  Ends with the job that it was made
// for, and no later than itself.
class BackgroundDigest {
 public:
  using Digests = absl::StatusOr<std::vector<FileRecord>>;

  // `digest` runs in a thread of its own, with a context of its own.
  BackgroundDigest(const RunContext& context, std::function<Digests(const RunContext&)> digest)
      : on_stop_(context.stop, [this] { stop_.request_stop(); }) {
    const RunContext silent{stop_.get_token(), nullptr, 1};
    result_ = std::async(std::launch::async,
                         [silent, digest = std::move(digest)] { return digest(silent); });
  }
  ~BackgroundDigest() { stop_.request_stop(); }  // the future's destructor waits

  // Once.
  Digests Take() { return result_.get(); }

 private:
  std::stop_source stop_;
  std::stop_callback<std::function<void()>> on_stop_;
  std::future<Digests> result_;
};

}  // namespace linchpin
