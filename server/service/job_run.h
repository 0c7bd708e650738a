// One job as the service sees it: its slot, its progress, its place in the
// metrics, and its line in the log.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "base/run_context.h"
#include "service/backend.h"
#include "service/call_origin.h"
#include "storage/stoppable_storage.h"

namespace linchpin {

// Thread-safe.
class JobRun : public RunObserver {
 public:
  // Takes a slot at once or refuses: BUSY, DRAINING.
  static absl::StatusOr<std::shared_ptr<JobRun>> Admit(const Backend& backend, JobKind kind,
                                                       const CallOrigin& origin = {});
  // A job that nobody ended counts as cancelled.
  ~JobRun() override;

  const Backend& backend() const { return backend_; }
  const Caller& caller() const { return origin_.caller; }
  // What the engine is told; must not outlive this.
  RunContext Context();
  // Where paths in the call lead; begins nothing once the job is to stop.
  const Storage& storage() const { return storage_; }
  std::stop_token stop_token() const { return job_->stop_token(); }
  void RequestStop() { job_->RequestStop(); }
  // Reserves memory or scratch: BUSY or EXCEEDS_SERVER_LIMIT.
  absl::Status Reserve(uint64_t bytes, Room room = Room::kMemory) {
    return job_->Reserve(bytes, room);
  }

  // Runs `work` in a worker.
  void Start(std::function<void()> work) { backend_.jobs.Start(job_, std::move(work)); }
  // The job is over: gives slot and memory back, counts and logs.  Returns what
  // the caller is to be told.  Once.
  absl::Status End(absl::Status status);

  // The key of the job, once it is known: for the log and the reply.
  void SetKey(std::string key);
  std::string key() const;

  // Counts what a compression found and saved.
  void CountCompression(const CompressResult& result);

  // The latest progress, if there was some since the last call.
  std::optional<Progress> TakeProgress();

  void OnProgress(const Progress& progress) override;
  void OnStageDone(Stage stage, double seconds, uint64_t read, uint64_t written) override;
  void OnTensor(TensorAction action) override;

 private:
  JobRun(const Backend& backend, JobKind kind, CallOrigin origin, std::shared_ptr<Job> job);

  const Backend& backend_;
  const JobKind kind_;
  const CallOrigin origin_;
  const std::shared_ptr<Job> job_;
  const StoppableStorage storage_;
  const std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  mutable std::mutex mutex_;
  std::string key_;
  std::optional<Progress> progress_;
  uint64_t bytes_read_ = 0;
  uint64_t bytes_written_ = 0;
  bool ended_ = false;
};

}  // namespace linchpin
