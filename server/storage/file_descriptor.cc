#include "storage/file_descriptor.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <system_error>

#include "base/status.h"
#include "fmt/format.h"

namespace linchpin {
namespace {

int OpenAt2(int directory, const char* name, const void* how, size_t size) {
  return static_cast<int>(syscall(SYS_openat2, directory, name, how, size));
}

int LinkFile(int fd, int directory, const char* name) {
  // linkat(2) takes a descriptor itself from privileged processes only.
  const std::string open_file = fmt::format("/proc/self/fd/{}", fd);
  return linkat(AT_FDCWD, open_file.c_str(), directory, name, AT_SYMLINK_FOLLOW);
}

}  // namespace

SystemCalls& TheSystemCalls() {
  static SystemCalls calls{pread, pwrite, mkdirat, OpenAt2, fallocate, fsync, renameat2, LinkFile};
  return calls;
}

FileDescriptor::~FileDescriptor() {
  if (fd_ >= 0) close(fd_);
}

FileDescriptor OpenWithin(int directory, const std::string& path, int flags, uint64_t resolve,
                          unsigned mode) {
  open_how how = {};
  how.flags = static_cast<uint64_t>(flags) | O_CLOEXEC;
  how.mode = mode;
  how.resolve = resolve;
  // EAGAIN: something was renamed during the walk and the kernel could not
  // prove that the path stays beneath.
  constexpr int kAttempts = 32;
  int fd = -1;
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    fd = TheSystemCalls().create(directory, path.c_str(), &how, sizeof(how));
    if (fd >= 0 || (errno != EAGAIN && errno != EINTR)) break;
  }
  return FileDescriptor(fd);
}

absl::Status ReadFully(int fd, std::string_view path, uint64_t offset, absl::Span<std::byte> out) {
  while (!out.empty()) {
    const ssize_t count =
        TheSystemCalls().read_at(fd, out.data(), out.size(), static_cast<off_t>(offset));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return SystemError(path, "read", errno);
    if (count == 0) {
      return Error(
          Reason::kSourceChanged, path,
          fmt::format("the file ends at byte {} and {} more were expected", offset, out.size()),
          "it was truncated while in use; run again when it no longer changes");
    }
    offset += static_cast<uint64_t>(count);
    out.remove_prefix(static_cast<size_t>(count));
  }
  return absl::OkStatus();
}

absl::Status WriteFully(int fd, std::string_view path, uint64_t offset,
                        absl::Span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t count =
        TheSystemCalls().write_at(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return SystemError(path, "write", count < 0 ? errno : EIO);
    offset += static_cast<uint64_t>(count);
    bytes.remove_prefix(static_cast<size_t>(count));
  }
  return absl::OkStatus();
}

absl::Status SystemError(std::string_view path, std::string_view doing, int error) {
  const std::string why =
      fmt::format("cannot {}: {}", doing, std::generic_category().message(error));
  switch (error) {
    case EACCES:
    case EPERM:
    case EROFS:
      return Error(Reason::kPathNotAllowed, path, why,
                   "check the permissions and the user that this runs as");
    case ENOSPC:
    case EDQUOT:
      return Error(Reason::kStorageFailed, path, why, "free some space and run again");
    default:
      return Error(Reason::kStorageFailed, path, why);
  }
}

}  // namespace linchpin
