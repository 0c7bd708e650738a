#include "client/local_files.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <system_error>

#include "client/errors.h"
#include "fmt/format.h"

namespace linchpin {

namespace fs = std::filesystem;

grpc::Status ReadLocalFile(const fs::path& path, uint64_t limit, std::string& text) {
  std::error_code error;
  const uint64_t size = fs::file_size(path, error);
  if (error) return SystemError(path.string(), error.value(), "name a file that can be read");
  if (size > limit) {
    return LocalError(
        grpc::StatusCode::INVALID_ARGUMENT, "OPTION_INVALID", path.string(),
        fmt::format("has {} bytes, more than the {} that one call may carry", size, limit),
        "give a smaller file");
  }
  std::ifstream file(path, std::ios::binary);
  text.resize(size);
  if (file && file.read(text.data(), static_cast<std::streamsize>(size))) return grpc::Status::OK;
  return SystemError(path.string(), errno != 0 ? errno : EIO, "name a file that can be read");
}

bool WriteAll(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t count = write(fd, bytes.data(), bytes.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return false;
    bytes.remove_prefix(static_cast<size_t>(count));
  }
  return true;
}

bool FlushToMedium(const fs::path& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return false;
  const bool flushed = fsync(fd) == 0;
  const int error = errno;
  close(fd);
  errno = error;
  return flushed;
}

grpc::Status WriteLocalFile(const fs::path& path, std::string_view text) {
  constexpr std::string_view kRemedy = "name a place that can be written";
  std::string temporary = path.string() + ".XXXXXX";
  const int fd = mkostemp(temporary.data(), O_CLOEXEC);
  if (fd < 0) return SystemError(path.string(), errno, kRemedy);
  const bool written = WriteAll(fd, text) && fchmod(fd, 0644) == 0 && fsync(fd) == 0;
  const int error = errno;
  close(fd);
  if (written && rename(temporary.c_str(), path.c_str()) == 0) return grpc::Status::OK;
  const int failure = written ? errno : error;
  unlink(temporary.c_str());
  return SystemError(path.string(), failure, kRemedy);
}

std::string AbsolutePath(const std::string& path) {
  if (path.find("://") != std::string::npos) return path;
  fs::path whole(path);
  if (whole.is_relative()) {
    std::error_code error;
    whole = (fs::current_path(error) / whole).lexically_normal();
  }
  std::string text = whole.string();
  while (text.size() > 1 && text.back() == '/') text.pop_back();
  return text;
}

std::string ResolvedPath(const std::string& path) {
  const std::string absolute = AbsolutePath(path);
  if (absolute.find("://") != std::string::npos) return absolute;
  const fs::path whole(absolute);
  std::error_code error;
  // A directory is resolved itself; of a file only the place: its name says what it is.
  if (fs::is_directory(whole, error)) {
    const fs::path resolved = fs::canonical(whole, error);
    return error ? absolute : resolved.string();
  }
  const fs::path parent = fs::weakly_canonical(whole.parent_path(), error);
  return error ? absolute : (parent / whole.filename()).string();
}

}  // namespace linchpin
