// Runs jobs: admits them, gives each a worker thread, stops them, and drains.
//
// A slot is a worker: whoever is admitted runs at once.  Nothing is kept of a
// job after it.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <stop_token>

#include "absl/status/statusor.h"
#include "jobs/admission.h"
#include "jobs/worker_pool.h"

namespace linchpin {

class JobRunner;

// An admitted job.  Thread-safe but for Reserve, which belongs to the worker.
class Job {
 public:
  ~Job() { Release(); }
  Job(const Job&) = delete;
  Job& operator=(const Job&) = delete;

  // Reserves memory or scratch: BUSY or EXCEEDS_SERVER_LIMIT.
  absl::Status Reserve(uint64_t bytes, Room room = Room::kMemory) {
    return ticket_.Grow(bytes, room);
  }
  // Gives slot and memory back; the job counts as over.  Again is harmless.
  void Release();

  void RequestStop() { stop_.request_stop(); }
  std::stop_token stop_token() const { return stop_.get_token(); }
  // DRAINING if the server stopped the job because it goes down, so that the
  // caller comes back; otherwise `status`.
  absl::Status Outcome(absl::Status status) const;

 private:
  friend class JobRunner;
  Job(JobRunner* runner, Admission::Ticket ticket) : runner_(runner), ticket_(std::move(ticket)) {}

  JobRunner* const runner_;
  std::stop_source stop_;
  std::atomic<bool> stopped_by_drain_ = false;
  std::once_flag released_;
  Admission::Ticket ticket_;
};

// Thread-safe.  Must outlive its jobs; destruction waits for the workers.
class JobRunner {
 public:
  explicit JobRunner(const Admission::Options& options);

  // Takes a slot: BUSY if there is none, DRAINING if the server is going down.
  absl::StatusOr<std::shared_ptr<Job>> Admit();
  // Runs `work` in a worker.  `job` is kept until `work` has returned.
  void Start(std::shared_ptr<Job> job, std::function<void()> work);

  // From now on Admit refuses.
  void Drain();
  bool draining() const;
  // Waits until no job is left; false if `timeout` came first.
  bool WaitIdle(std::chrono::milliseconds timeout);
  // Asks every job to stop.
  void StopAll();

  const Admission& admission() const { return admission_; }
  int jobs() const;

 private:
  friend class Job;
  void Remove(Job* job);

  Admission admission_;
  mutable std::mutex mutex_;
  std::condition_variable idle_;
  std::map<Job*, std::weak_ptr<Job>> jobs_;
  bool draining_ = false;
  WorkerPool workers_;  // last: ends before what its work uses
};

}  // namespace linchpin
