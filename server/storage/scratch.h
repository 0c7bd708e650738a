// A directory on disk for what calls send and get as bytes, in place of memory.
//
// A server has a directory of its own in it, a call a directory in that.  Both go
// when they are no longer needed; those of servers that were killed go when the
// next server starts there.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "storage/file_descriptor.h"
#include "storage/storage.h"

namespace linchpin {

// A directory that is removed with all it holds.
class ScratchPlace {
 public:
  ScratchPlace(std::string path, std::unique_ptr<Storage> storage)
      : path_(std::move(path)), storage_(std::move(storage)) {}
  ~ScratchPlace();
  ScratchPlace(const ScratchPlace&) = delete;
  ScratchPlace& operator=(const ScratchPlace&) = delete;

  const std::string& path() const { return path_; }
  // Reads and writes below path(); flushes nothing.
  const Storage& storage() const { return *storage_; }

 private:
  const std::string path_;
  const std::unique_ptr<Storage> storage_;
};

// Thread-safe.
class Scratch {
 public:
  // OPTION_INVALID for what is no directory or cannot be written.
  static absl::StatusOr<std::unique_ptr<Scratch>> Create(const std::string& directory);
  ~Scratch();
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  // Bytes that the file system had free at the start.
  uint64_t free_bytes() const { return free_bytes_; }
  // STORAGE_FAILED.
  absl::StatusOr<std::unique_ptr<ScratchPlace>> NewPlace() const;

 private:
  Scratch(std::string own, FileDescriptor lock, uint64_t free_bytes)
      : own_(std::move(own)), lock_(std::move(lock)), free_bytes_(free_bytes) {}

  const std::string own_;
  const FileDescriptor lock_;  // while it is held, nobody takes own_ for left
  const uint64_t free_bytes_;
};

}  // namespace linchpin
