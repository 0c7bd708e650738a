#include "jobs/job_runner.h"

#include <malloc.h>

#include <utility>
#include <vector>

#include "base/status.h"

namespace linchpin {

void Job::Release() {
  std::call_once(released_, [this] {
    ticket_.Release();
    runner_->Remove(this);
  });
}

absl::Status Job::Outcome(absl::Status status) const {
  if (status.ok() || !stopped_by_drain_ || ReasonOf(status) != Reason::kCancelled) return status;
  return Error(Reason::kDraining, "job", "the server is going down and stopped it",
               "call again; another replica will serve it");
}

JobRunner::JobRunner(const Admission::Options& options)
    : admission_(options), workers_(options.slots) {}

absl::StatusOr<std::shared_ptr<Job>> JobRunner::Admit() {
  std::lock_guard lock(mutex_);
  if (draining_) {
    return Error(Reason::kDraining, "server", "it is going down and takes no new jobs",
                 "call again; another replica will serve it");
  }
  ASSIGN_OR_RETURN(Admission::Ticket ticket, admission_.Admit());
  std::shared_ptr<Job> job(new Job(this, std::move(ticket)));
  jobs_[job.get()] = job;
  return job;
}

void JobRunner::Start(std::shared_ptr<Job> job, std::function<void()> work) {
  workers_.Submit([job = std::move(job), work = std::move(work)]() mutable {
    work();
    work = nullptr;
    // What the job had goes back to the system, not to the allocator's arenas alone.
    malloc_trim(0);
  });
}

void JobRunner::Drain() {
  std::lock_guard lock(mutex_);
  draining_ = true;
}

bool JobRunner::draining() const {
  std::lock_guard lock(mutex_);
  return draining_;
}

bool JobRunner::WaitIdle(std::chrono::milliseconds timeout) {
  std::unique_lock lock(mutex_);
  return idle_.wait_for(lock, timeout, [this] { return jobs_.empty(); });
}

void JobRunner::StopAll() {
  std::vector<std::shared_ptr<Job>> jobs;
  {
    std::lock_guard lock(mutex_);
    for (const auto& [address, job] : jobs_) jobs.push_back(job.lock());
  }
  // Without the lock: who listens to the stop may give the job back at once.
  for (const std::shared_ptr<Job>& job : jobs) {
    if (job == nullptr) continue;  // just ending
    job->stopped_by_drain_ = true;
    job->RequestStop();
  }
}

int JobRunner::jobs() const {
  std::lock_guard lock(mutex_);
  return static_cast<int>(jobs_.size());
}

void JobRunner::Remove(Job* job) {
  std::lock_guard lock(mutex_);
  jobs_.erase(job);
  if (jobs_.empty()) idle_.notify_all();
}

}  // namespace linchpin
