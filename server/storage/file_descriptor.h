// An owned file descriptor and the system calls on it that storage needs, with
// EINTR and short transfers handled.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/types/span.h"

namespace linchpin {

// Closes what it holds; -1 holds nothing.
class FileDescriptor {
 public:
  FileDescriptor() = default;
  explicit FileDescriptor(int fd) : fd_(fd) {}
  FileDescriptor(FileDescriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  FileDescriptor& operator=(FileDescriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~FileDescriptor();

  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }
  int Release() { return std::exchange(fd_, -1); }

 private:
  int fd_ = -1;
};

// The system calls of storage that can fail for want of space or with the
// medium.  Tests put others in their place, before any thread uses storage.
struct SystemCalls {
  ssize_t (*read_at)(int fd, void* out, size_t count, off_t offset);
  ssize_t (*write_at)(int fd, const void* bytes, size_t count, off_t offset);
  int (*make_directory)(int directory, const char* name, mode_t mode);
  int (*create)(int directory, const char* name, const void* how, size_t size);  // openat2
  int (*reserve)(int fd, int mode, off_t offset, off_t length);                  // fallocate
  int (*flush)(int fd);                                                          // fsync
  int (*rename)(int from, const char* old_name, int to, const char* new_name, unsigned flags);
  int (*link)(int fd, int directory, const char* name);  // a second name for an open file
};
SystemCalls& TheSystemCalls();

// openat2(2): opens `path` relative to `directory` under the given RESOLVE_
// flags.  Not valid and errno set on failure.
FileDescriptor OpenWithin(int directory, const std::string& path, int flags, uint64_t resolve,
                          unsigned mode = 0);

// Fill all of `out`, or write all of `bytes`, at `offset`.  `path` goes into
// errors: SOURCE_CHANGED at an early end of file, STORAGE_FAILED otherwise.
absl::Status ReadFully(int fd, std::string_view path, uint64_t offset, absl::Span<std::byte> out);
absl::Status WriteFully(int fd, std::string_view path, uint64_t offset,
                        absl::Span<const std::byte> bytes);

// STORAGE_FAILED (PATH_NOT_ALLOWED where permission is denied) saying what was
// done to `path` and the system's reason for `error`.
absl::Status SystemError(std::string_view path, std::string_view doing, int error);

}  // namespace linchpin
