// The reactor of CompressArtifact: a JobReactor that also reads.
#pragma once

#include <optional>
#include <utility>

#include "fmt/format.h"
#include "linchpin/v1/compression.pb.h"
#include "service/artifact_transfer.h"
#include "service/job_reactor.h"

namespace linchpin {

using ArtifactReactorBase =
    JobReactor<grpc::ServerBidiReactor<v1::CompressArtifactRequest, v1::CompressArtifactResponse>,
               v1::CompressArtifactResponse>;

// One message is read ahead of the worker; the rest waits in gRPC's flow control.
class ArtifactReactor final : public ArtifactReactorBase, public ArtifactChannel {
 public:
  using ArtifactReactorBase::ArtifactReactorBase;

  auto* BeginTransfer() {
    ReportProgress(false);
    auto* reactor =
        Begin(JobKind::kArtifact, [this](JobRun& run) { return TransferArtifact(*this, run); });
    return reactor;
  }

  absl::StatusOr<std::optional<v1::CompressArtifactRequest>> Read() override {
    std::unique_lock lock(mutex());
    if (state_ == State::kIdle) Prefetch();
    const auto settled = [this] { return state_ != State::kReading || broken(); };
    const bool in_time =
        changed().wait_for(lock, run().stop_token(), backend().idle_timeout, settled);
    if (broken() || run().stop_token().stop_requested()) {
      return Error(Reason::kCancelled, "stream", "the caller is gone or the job was stopped");
    }
    if (!in_time) {
      return Error(Reason::kStreamInvalid, "stream",
                   fmt::format("nothing came for {} ms", backend().idle_timeout.count()),
                   "call again and send without a pause");
    }
    if (state_ == State::kClosed) return std::nullopt;
    std::optional<v1::CompressArtifactRequest> message(std::move(incoming_));
    if (!message->has_finish()) Prefetch();
    return message;
  }

  absl::Status Write(v1::CompressArtifactResponse& message) override { return Send(message); }
  void UploadDone() override { ReportProgress(true); }
  void DownloadBegins() override { ReportProgress(false); }

  void OnReadDone(bool ok) override {
    std::lock_guard lock(mutex());
    state_ = ok ? State::kFilled : State::kClosed;
    if (!ok && cancelled()) Break();
    changed().notify_all();
  }

 private:
  enum class State { kIdle, kReading, kFilled, kClosed };

  void Prefetch() {
    incoming_.Clear();
    state_ = State::kReading;
    StartRead(&incoming_);
  }

  v1::CompressArtifactRequest incoming_;
  State state_ = State::kIdle;
};

}  // namespace linchpin
