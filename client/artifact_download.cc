#include "client/artifact_download.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>
#include <utility>

#include "client/errors.h"
#include "client/local_files.h"
#include "fmt/format.h"

namespace linchpin {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kOverwriteRemedy = "name another directory, or give --overwrite";

grpc::Status StreamError(std::string_view name, std::string_view why) {
  return LocalError(grpc::StatusCode::INTERNAL, "STREAM_INVALID", name, why,
                    "the server does not speak this version of the API: compare `--version` "
                    "with `capabilities`");
}

// Relative, and every part a plain name.
bool IsSafeName(const std::string& name) {
  if (name.empty() || name.find('\0') != std::string::npos) return false;
  size_t begin = 0;
  while (true) {
    const size_t end = std::min(name.find('/', begin), name.size());
    const std::string part = name.substr(begin, end - begin);
    if (part.empty() || part == "." || part == "..") return false;
    if (end == name.size()) return true;
    begin = end + 1;
  }
}

}  // namespace

grpc::Status ArtifactDownload::Begin(const fs::path& output, bool overwrite,
                                     std::unique_ptr<ArtifactDownload>& download) {
  std::error_code error;
  if (!overwrite && fs::exists(fs::symlink_status(output, error))) {
    return SystemError(output.string(), EEXIST, kOverwriteRemedy);
  }
  std::unique_ptr<ArtifactDownload> made(new ArtifactDownload(output, overwrite));
  const grpc::Status status = made->MakeTemporary();
  if (status.ok()) download = std::move(made);
  return status;
}

grpc::Status ArtifactDownload::MakeTemporary() {
  constexpr int kAttempts = 100;
  for (int i = 0; i < kAttempts; ++i) {
    fs::path name = output_.parent_path() /
                    fmt::format(".{}.linchpin-{}-{}", output_.filename().string(), getpid(), i);
    if (mkdir(name.c_str(), 0777) == 0) {
      temporary_ = std::move(name);
      return grpc::Status::OK;
    }
    if (errno != EEXIST) break;
  }
  return SystemError(output_.string(), errno, "name a place that exists and can be written");
}

ArtifactDownload::~ArtifactDownload() {
  if (fd_ >= 0) close(fd_);
  std::error_code ignored;
  if (!temporary_.empty()) fs::remove_all(temporary_, ignored);
}

grpc::Status ArtifactDownload::Take(const v1::FileHeader& header) {
  if (fd_ >= 0) return StreamError(header.name(), "came before the file ahead of it ended");
  if (!IsSafeName(header.name())) return StreamError(header.name(), "is not a name for a file");
  const fs::path path = temporary_ / header.name();
  std::error_code error;
  fs::create_directories(path.parent_path(), error);
  fd_ = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
  if (fd_ < 0) return SystemError(path.string(), errno, "name a place that can be written");
  name_ = header.name();
  size_ = header.size();
  received_ = 0;
  digest_ = std::make_unique<Sha256Thread>();
  return grpc::Status::OK;
}

grpc::Status ArtifactDownload::Take(v1::FileChunk chunk) {
  if (fd_ < 0) return StreamError(name_, "has bytes outside a file");
  if (chunk.offset() != received_ || chunk.data().size() > size_ - received_) {
    return StreamError(name_, "has bytes out of place");
  }
  if (!WriteAll(fd_, chunk.data())) {
    return SystemError((output_ / name_).string(), errno,
                       "free space there, or name another place");
  }
  received_ += chunk.data().size();
  digest_->Update(std::move(*chunk.mutable_data()));
  return grpc::Status::OK;
}

grpc::Status ArtifactDownload::Take(const v1::FileEnd& end) {
  if (fd_ < 0 || received_ != size_) return StreamError(name_, "ended before its size");
  if (digest_->Hex() != end.sha256()) {
    return LocalError(grpc::StatusCode::DATA_LOSS, "DIGEST_MISMATCH", name_,
                      "arrived with another SHA-256 than the server sent", "call again");
  }
  const bool flushed = fsync(fd_) == 0;
  const int error = errno;
  const bool closed = close(fd_) == 0;
  fd_ = -1;
  if (flushed && closed) return grpc::Status::OK;
  return SystemError((output_ / name_).string(), flushed ? errno : error, "check the disk");
}

grpc::Status ArtifactDownload::FlushDirectories() const {
  std::error_code error;
  bool flushed = FlushToMedium(temporary_);
  for (const auto& entry : fs::recursive_directory_iterator(temporary_, error)) {
    if (entry.is_directory(error)) flushed = flushed && FlushToMedium(entry.path());
  }
  return flushed ? grpc::Status::OK : SystemError(output_.string(), errno, "check the disk");
}

grpc::Status ArtifactDownload::Commit() {
  if (fd_ >= 0) return StreamError(name_, "did not end");
  grpc::Status status = FlushDirectories();
  if (!status.ok()) return status;
  const auto move = [&](unsigned flags) {
    return renameat2(AT_FDCWD, temporary_.c_str(), AT_FDCWD, output_.c_str(), flags) == 0;
  };
  if (move(RENAME_NOREPLACE)) {
    temporary_.clear();
  } else if (errno != EEXIST || !overwrite_ || !move(RENAME_EXCHANGE)) {
    return SystemError(output_.string(), errno, kOverwriteRemedy);
  }  // exchanged: what was there is removed as the temporary
  FlushToMedium(output_.parent_path());
  return grpc::Status::OK;
}

}  // namespace linchpin
