// The reactor of CompressArtifact: a JobReactor that also reads.
#pragma once

#include <deque>
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

// A few messages are read ahead of the worker, so that one arrives while another is
// digested; the rest waits in gRPC's flow control.
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
    ReadAhead();
    const auto settled = [this] { return !arrived_.empty() || closed_ || broken(); };
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
    if (arrived_.empty()) return std::nullopt;
    std::optional<v1::CompressArtifactRequest> message(std::move(arrived_.front()));
    arrived_.pop_front();
    ReadAhead();
    return message;
  }

  absl::Status Write(v1::CompressArtifactResponse& message) override { return Send(message); }
  void UploadDone() override { ReportProgress(true); }
  void DownloadBegins() override { ReportProgress(false); }

  void OnReadDone(bool ok) override {
    std::lock_guard lock(mutex());
    reading_ = false;
    closed_ = !ok || incoming_.has_finish();
    if (ok) arrived_.push_back(std::move(incoming_));
    if (!ok && cancelled()) Break();
    ReadAhead();
    changed().notify_all();
  }

 private:
  static constexpr size_t kReadAhead = 4;

  // Asks for the next message where there is room for it.  With the lock held.
  void ReadAhead() {
    if (reading_ || closed_ || broken() || arrived_.size() >= kReadAhead) return;
    incoming_.Clear();
    reading_ = true;
    StartRead(&incoming_);
  }

  v1::CompressArtifactRequest incoming_;  // while reading_
  std::deque<v1::CompressArtifactRequest> arrived_;
  bool reading_ = false;
  bool closed_ = false;  // nothing more is to come
};

}  // namespace linchpin
