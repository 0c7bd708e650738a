#include "service/job_run.h"

#include <utility>

#include "base/status.h"
#include "spdlog/spdlog.h"

namespace linchpin {
namespace {

// The audit line.  Numbers and values of closed sets only, so that it needs no
// escaping and gives nothing away.
void Audit(JobKind kind, const absl::Status& status, double seconds, uint64_t read,
           uint64_t written) {
  spdlog::info(R"({{"job":"{}","result":"{}","reason":"{}","seconds":{:.3f},"bytes_read":{},)"
               R"("bytes_written":{}}})",
               NameOf(kind), NameOf(ResultOf(status)),
               status.ok() ? "" : InfoOf(ReasonOf(status)).name, seconds, read, written);
}

}  // namespace

absl::StatusOr<std::shared_ptr<JobRun>> JobRun::Admit(const Backend& backend, JobKind kind) {
  auto job = backend.jobs.Admit();
  if (!job.ok()) {
    backend.metrics.JobRefused(kind);
    backend.metrics.CountReason(ReasonOf(job.status()));
    Audit(kind, job.status(), 0, 0, 0);
    return job.status();
  }
  return std::shared_ptr<JobRun>(new JobRun(backend, kind, *std::move(job)));
}

JobRun::JobRun(const Backend& backend, JobKind kind, std::shared_ptr<Job> job)
    : backend_(backend),
      kind_(kind),
      job_(std::move(job)),
      storage_(backend.storage.UntilStopped(job_->stop_token())) {
  backend_.metrics.JobStarted(kind_);
}

JobRun::~JobRun() {
  if (!ended_) End(Error(Reason::kCancelled, "job", "it was given up before it ran")).IgnoreError();
}

RunContext JobRun::Context() {
  return {.stop = job_->stop_token(), .observer = this, .threads = backend_.threads};
}

absl::Status JobRun::End(absl::Status status) {
  status = job_->Outcome(std::move(status));
  uint64_t read, written;
  {
    std::lock_guard lock(mutex_);
    ended_ = true;
    read = bytes_read_;
    written = bytes_written_;
  }
  backend_.metrics.JobFinished(kind_, ResultOf(status));
  backend_.metrics.CountReason(ReasonOf(status));
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start_;
  Audit(kind_, status, seconds.count(), read, written);
  // Before the caller hears of it: its next call must find the slot free.
  job_->Release();
  return status;
}

void JobRun::CountCompression(const CompressResult& result) {
  backend_.metrics.SuperWeightsDetected(
      static_cast<int64_t>(result.detection.super_weights.size()));
  backend_.metrics.Compressed(result.bytes_in, result.bytes_out);
}

std::optional<Progress> JobRun::TakeProgress() {
  std::lock_guard lock(mutex_);
  return std::exchange(progress_, std::nullopt);
}

void JobRun::OnProgress(const Progress& progress) {
  std::lock_guard lock(mutex_);
  progress_ = progress;
}

void JobRun::OnStageDone(Stage stage, double seconds, uint64_t read, uint64_t written) {
  backend_.metrics.StageDone(stage, seconds, read, written);
  std::lock_guard lock(mutex_);
  bytes_read_ += read;
  bytes_written_ += written;
}

void JobRun::OnTensor(TensorAction action) { backend_.metrics.TensorDone(action); }

}  // namespace linchpin
