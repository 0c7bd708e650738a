#include "client/artifact_upload.h"

#include <algorithm>
#include <fstream>
#include <system_error>
#include <utility>

#include "client/errors.h"
#include "client/sha256_thread.h"

namespace linchpin {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kChunkBytes = 1 << 20;

bool IsHidden(const fs::path& path) { return path.filename().string().front() == '.'; }

// Sends one file; `open` says whether the server still takes messages.
grpc::Status SendFile(const fs::path& path, const UploadFile& file, const SendPart& send,
                      bool& open) {
  v1::CompressArtifactRequest message;
  message.mutable_file()->set_name(file.name);
  message.mutable_file()->set_size(file.size);
  open = send(message);
  std::ifstream stream(path, std::ios::binary);
  Sha256Thread digest;
  for (uint64_t offset = 0; open && offset < file.size; offset += kChunkBytes) {
    message.mutable_chunk()->set_offset(offset);
    std::string& data = *message.mutable_chunk()->mutable_data();
    data.resize(std::min(kChunkBytes, file.size - offset));
    if (!stream.read(data.data(), static_cast<std::streamsize>(data.size()))) {
      return LocalError(grpc::StatusCode::FAILED_PRECONDITION, "SOURCE_CHANGED", path.string(),
                        "cannot be read to the size it had", "leave it alone and call again");
    }
    open = send(message);
    digest.Update(std::move(data));
  }
  if (!open) return grpc::Status::OK;
  message.mutable_end()->set_sha256(digest.Hex());
  open = send(message);
  return grpc::Status::OK;
}

}  // namespace

grpc::Status ListUpload(const fs::path& directory, std::vector<UploadFile>& files) {
  std::error_code error;
  fs::recursive_directory_iterator entry(directory, error);
  for (; !error && entry != fs::recursive_directory_iterator(); entry.increment(error)) {
    if (IsHidden(entry->path())) {
      entry.disable_recursion_pending();
      continue;
    }
    if (!entry->is_regular_file(error)) continue;
    files.push_back(
        {entry->path().lexically_relative(directory).generic_string(), entry->file_size(error)});
  }
  if (error) return SystemError(directory.string(), error.value(), "name a model directory");
  std::sort(files.begin(), files.end(),
            [](const UploadFile& a, const UploadFile& b) { return a.name < b.name; });
  return grpc::Status::OK;
}

grpc::Status SendFiles(const fs::path& directory, const std::vector<UploadFile>& files,
                       const SendPart& send) {
  bool open = true;
  for (const UploadFile& file : files) {
    const grpc::Status status = SendFile(directory / file.name, file, send, open);
    if (!status.ok() || !open) return status;
  }
  v1::CompressArtifactRequest message;
  message.mutable_finish();
  send(message);
  return grpc::Status::OK;
}

}  // namespace linchpin
