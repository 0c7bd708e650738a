// The reactor of every call that streams responses: it moves messages between
// gRPC and a job in a worker, and nothing else.
//
// One write is outstanding at a time.  What the engine reports is kept as the
// latest progress only and sent when the ticker comes by, so a slow reader
// holds nothing up and sees no stale news.  A reader that stands still for the
// idle timeout is cut off.
#pragma once

#include <chrono>
#include <condition_variable>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>

#include "base/status.h"
#include "grpcpp/grpcpp.h"
#include "jobs/ticker.h"
#include "service/call_gate.h"
#include "service/conversion.h"
#include "service/job_run.h"
#include "service/status_conversion.h"

namespace linchpin {

// What `work` answers.  An exception, such as for want of memory, ends the job
// and not the server.
template <class Response, class Work>
absl::StatusOr<Response> Guarded(const Work& work, JobRun& run) {
  try {
    return work(run);
  } catch (const std::exception& exception) {
    return Error(Reason::kInternal, "job", exception.what(), "report this with the server's log");
  }
}

// A slot for the job of a call.
inline absl::StatusOr<std::shared_ptr<JobRun>> Admit(const Backend& backend, JobKind kind,
                                                     const grpc::ServerContextBase& context) {
  ASSIGN_OR_RETURN(const CallOrigin origin, OriginOf(context, backend, RpcOf(kind)));
  return JobRun::Admit(backend, kind, origin);
}

// `Base` is grpc::ServerWriteReactor or ServerBidiReactor; `Response` has a
// `progress` field.  Lives until gRPC is done with the call and the work is over.
template <class Base, class Response>
class JobReactor : public Base,
                   public Ticker::Listener,
                   public std::enable_shared_from_this<JobReactor<Base, Response>> {
 public:
  using Clock = std::chrono::steady_clock;
  // Runs in a worker; its response is the last message.
  using Work = std::function<absl::StatusOr<Response>(JobRun&)>;

  JobReactor(const Backend& backend, grpc::CallbackServerContext* context)
      : backend_(backend), context_(context) {}

  // Admits the job and starts `work`, or ends the call with the refusal.
  Base* Begin(JobKind kind, Work work) {
    self_ = this->shared_from_this();
    auto run = Admit(backend_, kind, *context_);
    if (!run.ok()) {
      Complete(run.status());
      return this;
    }
    run_ = *std::move(run);
    backend_.ticker.Add(this->weak_from_this());
    run_->Start([self = self_, work = std::move(work)] {
      absl::StatusOr<Response> response = Guarded<Response>(work, *self->run_);
      const absl::Status status = self->run_->End(response.status());
      self->Complete(status.ok() ? std::move(response) : status);
    });
    return this;
  }

  void OnWriteDone(bool ok) override {
    std::lock_guard lock(mutex_);
    writing_ = false;
    if (!ok) Break();
    Pump();
    changed_.notify_all();
  }

  void OnCancel() override {
    std::lock_guard lock(mutex_);
    Break();
    changed_.notify_all();
  }

  void OnDone() override {
    std::unique_lock lock(mutex_);
    context_ = nullptr;
    const auto last = std::move(self_);
    lock.unlock();
  }

  void Tick(Clock::time_point now) override {
    std::lock_guard lock(mutex_);
    if (context_ == nullptr) return;
    if (writing_ || finished_) {
      if (now - last_write_ > backend_.idle_timeout) context_->TryCancel();
      return;
    }
    if (!reports_progress_ || outcome_ || queued_) return;
    std::optional<Progress> progress = run_->TakeProgress();
    if (!progress && now - last_write_ < backend_.heartbeat) return;
    if (progress) latest_ = *std::move(progress);
    *next_.mutable_progress() = ToProto(latest_);
    queued_ = true;
    Pump();
  }

 protected:
  // Sends a message before the result; for the worker.  Waits until there is
  // room for it; CANCELLED if the caller is gone or the job was stopped.  Leaves
  // an older message in its place, whose memory can be filled again.
  absl::Status Send(Response& response) {
    std::unique_lock lock(mutex_);
    const auto room = [this] { return broken_ || !queued_; };
    const bool waited = changed_.wait(lock, run_->stop_token(), room);
    if (broken_ || !waited) {
      return Error(Reason::kCancelled, "stream", "the caller is gone or does not read");
    }
    next_.Swap(&response);
    queued_ = true;
    Pump();
    return absl::OkStatus();
  }

  // Whether the caller hears of progress, from now on.
  void ReportProgress(bool report) {
    std::lock_guard lock(mutex_);
    reports_progress_ = report;
    last_write_ = Clock::now();
  }

  std::mutex& mutex() { return mutex_; }
  std::condition_variable_any& changed() { return changed_; }
  JobRun& run() { return *run_; }
  const Backend& backend() const { return backend_; }
  // With the lock held.
  bool broken() const { return broken_; }
  bool cancelled() const { return context_ != nullptr && context_->IsCancelled(); }
  void Break() {
    broken_ = true;
    queued_ = false;
    if (run_ != nullptr) run_->RequestStop();
  }

 private:
  void Complete(absl::StatusOr<Response> outcome) {
    std::lock_guard lock(mutex_);
    outcome_ = std::move(outcome);
    Pump();
  }

  // Starts the next write, or the end.  With the lock held.
  void Pump() {
    if (writing_ || finished_) return;
    if (queued_) {
      queued_ = false;
      message_.Swap(&next_);
      writing_ = true;
      last_write_ = Clock::now();
      this->StartWrite(&message_);
      return;
    }
    if (!outcome_) return;
    finished_ = true;
    last_write_ = Clock::now();
    const grpc::Status status = EndCall(*context_, outcome_->status());
    if (!outcome_->ok()) return this->Finish(status);
    message_ = **std::move(outcome_);
    this->StartWriteAndFinish(&message_, grpc::WriteOptions(), status);
  }

  const Backend& backend_;
  std::shared_ptr<JobRun> run_;  // null if refused
  std::mutex mutex_;
  std::condition_variable_any changed_;
  grpc::CallbackServerContext* context_;  // null once gRPC is done
  std::shared_ptr<JobReactor> self_;      // until gRPC is done
  Response message_;                      // being written
  Response next_;                         // to be written next, where queued_
  std::optional<absl::StatusOr<Response>> outcome_;
  Progress latest_;
  Clock::time_point last_write_ = Clock::now();
  bool reports_progress_ = true;
  bool queued_ = false;
  bool writing_ = false;
  bool broken_ = false;
  bool finished_ = false;
};

// A unary call that needs a worker.  Lives as long as the two need it.
template <class Response>
class UnaryReactor : public grpc::ServerUnaryReactor,
                     public std::enable_shared_from_this<UnaryReactor<Response>> {
 public:
  using Work = std::function<absl::StatusOr<Response>(JobRun&)>;

  UnaryReactor(const Backend& backend, grpc::CallbackServerContext* context, Response* response)
      : backend_(backend), context_(context), response_(response) {}

  grpc::ServerUnaryReactor* Begin(JobKind kind, Work work) {
    self_ = this->shared_from_this();
    auto run = Admit(backend_, kind, *context_);
    if (!run.ok()) {
      Finish(EndCall(*context_, run.status()));
      return this;
    }
    run_ = *std::move(run);
    run_->Start([self = self_, work = std::move(work)] {
      absl::StatusOr<Response> response = Guarded<Response>(work, *self->run_);
      const absl::Status status = self->run_->End(response.status());
      if (status.ok()) *self->response_ = *std::move(response);
      self->Finish(EndCall(*self->context_, status));
    });
    return this;
  }

  void OnCancel() override {
    if (run_ != nullptr) run_->RequestStop();
  }
  void OnDone() override { const auto last = std::move(self_); }

 private:
  const Backend& backend_;
  grpc::CallbackServerContext* const context_;
  Response* const response_;
  std::shared_ptr<JobRun> run_;
  std::shared_ptr<UnaryReactor> self_;
};

}  // namespace linchpin
