// Sends the files of a model directory as CompressArtifact takes them.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "grpcpp/support/status.h"
#include "linchpin/v1/compression.pb.h"

namespace linchpin {

struct UploadFile {
  std::string name;  // relative to the directory, with '/'
  uint64_t size = 0;
};

// The regular files below `directory` by name, links to files followed, hidden
// ones left out.
grpc::Status ListUpload(const std::filesystem::path& directory, std::vector<UploadFile>& files);

// Sends one message; false once the server takes no more.
using SendPart = std::function<bool(const v1::CompressArtifactRequest&)>;

// Sends header, chunks with their offsets, and the digest of every file, then
// `finish`.  Ends early and OK if `send` returns false: the call's own status
// tells why.  SOURCE_CHANGED if a file is shorter than it was listed.
grpc::Status SendFiles(const std::filesystem::path& directory, const std::vector<UploadFile>& files,
                       const SendPart& send);

}  // namespace linchpin
