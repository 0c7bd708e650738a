// An engine whose calls block, fail and report as a test wants.
#pragma once

#include <condition_variable>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "service/engine.h"

namespace linchpin {

// Thread-safe.  Every long call reports one progress message, then waits while
// Hold is in force, then fails or answers.  `compress` copies each file of the
// source to the output, under the name copy-of-NAME.
class FakeEngine {
 public:
  FakeEngine();
  FakeEngine(const FakeEngine&) = delete;
  FakeEngine& operator=(const FakeEngine&) = delete;

  const Engine& engine() const { return engine_; }

  // Calls from now on wait until Release, or until they are stopped.
  void Hold();
  void Release();
  // Every call answers with `error` instead; OK ends that.
  void FailWith(absl::Status error);
  // A call throws.
  void ThrowOnce();
  // What a survey says.
  void set_memory(uint64_t bytes);
  void set_source_bytes(uint64_t bytes);
  void set_fingerprint(const std::string& source, const std::string& fingerprint);

  // Waits until `count` calls are held; false when patience is over.
  bool WaitForHeld(int count);
  // Calls that ended because they were stopped.
  int stopped() const;
  // What `compress` was last asked.
  CompressOptions last_options() const;

 private:
  absl::Status Work(const RunContext& context);
  absl::StatusOr<CompressResult> Compress(const Storage& source_storage, const std::string& source,
                                          const Storage& output_storage,
                                          const std::string& destination,
                                          const CompressOptions& options,
                                          const RunContext& context);

  mutable std::mutex mutex_;
  std::condition_variable_any changed_;
  bool hold_ = false;
  bool throw_ = false;
  int held_ = 0;
  int stopped_ = 0;
  uint64_t memory_ = 1000;
  uint64_t source_bytes_ = 500;
  std::map<std::string, std::string> fingerprints_;
  absl::Status error_;
  CompressOptions options_;
  Engine engine_;
};

// A detection with two super weights and a proof.
Detection SampleDetection();

}  // namespace linchpin
