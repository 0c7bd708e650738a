// The incoming half of CompressArtifact: options, files, finish, in that order
// and no other.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "artifact/digest.h"
#include "linchpin/v1/compression.pb.h"
#include "service/job_run.h"
#include "storage/storage.h"

namespace linchpin {

// Takes messages one by one.  Any error ends the upload.  Not thread-safe.
class ArtifactUpload {
 public:
  static constexpr size_t kMaxFiles = 10'000;

  // Files are written to `place`, which is committed with the finish.  Their
  // declared sizes are reserved with `run`, in `room`, when they are announced.
  ArtifactUpload(JobRun& run, OutputDirectory& place, Room room)
      : run_(run), place_(place), room_(room) {}

  // STREAM_INVALID for a message out of order, of the wrong size or at the
  // wrong offset, DIGEST_MISMATCH, PATH_NOT_ALLOWED for a name that leads out
  // of the directory, EXCEEDS_SERVER_LIMIT and BUSY for want of room.
  absl::Status Take(const v1::CompressArtifactRequest& message);

  bool finished() const { return finished_; }
  const v1::ArtifactOptions& options() const { return options_; }
  uint64_t bytes() const { return bytes_; }  // announced so far
  // Whole and with the digest that the caller gave as well.
  const std::vector<FileRecord>& files() const { return files_; }

 private:
  absl::Status TakeOptions(const v1::ArtifactOptions& options);
  absl::Status TakeHeader(const v1::FileHeader& header);
  absl::Status TakeChunk(const v1::FileChunk& chunk);
  absl::Status TakeEnd(const v1::FileEnd& end);
  absl::Status TakeFinish();

  struct OpenFile {
    std::string name;
    uint64_t size = 0;
    uint64_t received = 0;
    std::unique_ptr<WritableFile> data;
    Sha256 digest;
  };

  JobRun& run_;
  OutputDirectory& place_;
  const Room room_;
  v1::ArtifactOptions options_;
  bool has_options_ = false;
  bool finished_ = false;
  std::unique_ptr<OpenFile> open_;
  std::set<std::string, std::less<>> names_;
  uint64_t bytes_ = 0;
  std::vector<FileRecord> files_;
};

}  // namespace linchpin
