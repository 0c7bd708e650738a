#include "service/job_run.h"

#include <utility>

#include "base/status.h"
#include "format/json.h"
#include "spdlog/spdlog.h"

namespace linchpin {
namespace {

struct Amounts {
  double seconds = 0;
  uint64_t read = 0;
  uint64_t written = 0;
};

// The audit line, one JSON object.  Of what callers say it holds who they are
// and their trace alone: no path, no header, no message.
void Audit(JobKind kind, const CallOrigin& origin, const std::string& key,
           const absl::Status& status, const Amounts& amounts) {
  spdlog::info(R"({{"job":"{}","result":"{}","reason":"{}","caller":{},"key":"{}","trace":"{}",)"
               R"("seconds":{:.3f},"bytes_read":{},"bytes_written":{}}})",
               NameOf(kind), NameOf(ResultOf(status)),
               status.ok() ? "" : InfoOf(ReasonOf(status)).name,
               Json(origin.caller.identity).dump(-1, ' ', true, Json::error_handler_t::replace),
               key, origin.trace, amounts.seconds, amounts.read, amounts.written);
}

}  // namespace

absl::StatusOr<std::shared_ptr<JobRun>> JobRun::Admit(const Backend& backend, JobKind kind,
                                                      const CallOrigin& origin) {
  auto job = backend.jobs.Admit();
  if (!job.ok()) {
    backend.metrics.JobRefused(kind);
    backend.metrics.CountReason(ReasonOf(job.status()));
    Audit(kind, origin, "", job.status(), {});
    return job.status();
  }
  return std::shared_ptr<JobRun>(new JobRun(backend, kind, origin, *std::move(job)));
}

JobRun::JobRun(const Backend& backend, JobKind kind, CallOrigin origin, std::shared_ptr<Job> job)
    : backend_(backend),
      kind_(kind),
      origin_(std::move(origin)),
      job_(std::move(job)),
      storage_(backend.storage, job_->stop_token()) {
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
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start_;
  Amounts amounts{.seconds = seconds.count()};
  {
    std::lock_guard lock(mutex_);
    ended_ = true;
    amounts.read = bytes_read_;
    amounts.written = bytes_written_;
  }
  backend_.metrics.JobFinished(kind_, ResultOf(status));
  backend_.metrics.CountReason(ReasonOf(status));
  Audit(kind_, origin_, key(), status, amounts);
  // Before the caller hears of it: its next call must find the slot free.
  job_->Release();
  return status;
}

void JobRun::SetKey(std::string key) {
  std::lock_guard lock(mutex_);
  key_ = std::move(key);
}

std::string JobRun::key() const {
  std::lock_guard lock(mutex_);
  return key_;
}

void JobRun::CountCompression(const CompressResult& result) {
  if (result.detection) {
    backend_.metrics.SuperWeightsDetected(
        static_cast<int64_t>(result.detection->super_weights.size()));
  }
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
