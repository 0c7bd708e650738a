// Writes the files that CompressArtifact returns: a directory, whole or not at all.
//
// Everything lands in a hidden directory beside OUT, every digest is checked,
// everything is flushed, then it is renamed.  Names come from the server and
// are not trusted: none leaves the directory.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

#include "client/sha256_thread.h"
#include "grpcpp/support/status.h"
#include "linchpin/v1/compression.pb.h"

namespace linchpin {

class ArtifactDownload {
 public:
  // OUTPUT_EXISTS if something is at `output` and `overwrite` is false.
  static grpc::Status Begin(const std::filesystem::path& output, bool overwrite,
                            std::unique_ptr<ArtifactDownload>& download);
  // Removes what was not committed.
  ~ArtifactDownload();
  ArtifactDownload(const ArtifactDownload&) = delete;
  ArtifactDownload& operator=(const ArtifactDownload&) = delete;

  // STREAM_INVALID for a bad name, order or offset; DIGEST_MISMATCH.
  grpc::Status Take(const v1::FileHeader& header);
  grpc::Status Take(v1::FileChunk chunk);
  grpc::Status Take(const v1::FileEnd& end);
  // Makes the directory appear.
  grpc::Status Commit();

 private:
  ArtifactDownload(std::filesystem::path output, bool overwrite)
      : output_(std::move(output)), overwrite_(overwrite) {}
  grpc::Status MakeTemporary();
  grpc::Status FlushDirectories() const;

  const std::filesystem::path output_;
  const bool overwrite_;
  std::filesystem::path temporary_;
  // The file in hand.
  int fd_ = -1;
  std::string name_;
  uint64_t size_ = 0;
  uint64_t received_ = 0;
  std::unique_ptr<Sha256Thread> digest_;
};

}  // namespace linchpin
