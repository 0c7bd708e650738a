// CompressArtifact as a conversation: take the files, compress them where they
// lie, send the result.
#pragma once

#include <optional>

#include "absl/status/statusor.h"
#include "linchpin/v1/compression.pb.h"
#include "service/job_run.h"

namespace linchpin {

// The caller's end of the line.  Both calls wait, and fail with CANCELLED once
// the caller is gone or the job was stopped.
class ArtifactChannel {
 public:
  virtual ~ArtifactChannel() = default;
  // The next message; nothing if the caller has closed its side.
  // STREAM_INVALID if none came for the idle timeout.
  virtual absl::StatusOr<std::optional<v1::CompressArtifactRequest>> Read() = 0;
  // Leaves an older message in its place, whose memory can be filled again.
  virtual absl::Status Write(v1::CompressArtifactResponse& message) = 0;
  // Everything was read: from now on, until the first file, progress is of interest.
  virtual void UploadDone() {}
  virtual void DownloadBegins() {}
};

// The whole conversation but the last message, which it returns.  Blocks; for a
// worker.
absl::StatusOr<v1::CompressArtifactResponse> TransferArtifact(ArtifactChannel& channel,
                                                              JobRun& run);

}  // namespace linchpin
