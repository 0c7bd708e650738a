// Storage in memory: for artifacts that arrive and leave as bytes, and for tests.
#pragma once

#include <algorithm>
#include <cstddef>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "storage/storage.h"

namespace linchpin {

// Bytes that begin as zeros and take memory only where they were touched, so that
// a file that is announced costs what has arrived of it.  Large ones go back to
// the system with the last owner.
class ZeroedBytes {
 public:
  // std::bad_alloc where there is no such room.
  explicit ZeroedBytes(size_t size);
  ~ZeroedBytes();
  ZeroedBytes(const ZeroedBytes&) = delete;
  ZeroedBytes& operator=(const ZeroedBytes&) = delete;

  std::byte* data() { return data_; }
  const std::byte* data() const { return data_; }
  size_t size() const { return size_; }
  std::byte& operator[](size_t i) { return data_[i]; }
  std::byte operator[](size_t i) const { return data_[i]; }
  void Shrink(size_t size) { size_ = std::min(size, size_); }
  friend bool operator==(const ZeroedBytes& a, const ZeroedBytes& b) {
    return std::equal(a.data_, a.data_ + a.size_, b.data_, b.data_ + b.size_);
  }

 private:
  const size_t capacity_;
  size_t size_;
  std::byte* data_;
};

// Paths are plain keys; a directory exists where a key lies below it.  Bytes
// handed in or out must not be resized while a file is open on them.
class MemoryStorage : public Storage {
 public:
  using Bytes = std::shared_ptr<ZeroedBytes>;

  MemoryStorage();

  // Puts a file in place, replacing what was there.
  void Put(const std::string& path, Bytes bytes);
  // The file's bytes, or null.
  Bytes Get(std::string_view path) const;
  // Drops a file, so that its memory is returned before the storage goes.
  void Remove(std::string_view path);

  absl::StatusOr<std::unique_ptr<ReadableFile>> Open(std::string_view path) const override;
  absl::StatusOr<std::vector<FileEntry>> List(std::string_view directory) const override;
  absl::StatusOr<bool> IsDirectory(std::string_view path) const override;
  absl::StatusOr<std::unique_ptr<OutputDirectory>> CreateDirectory(std::string_view path,
                                                                   bool overwrite) const override;
  absl::Status RemoveDirectory(std::string_view path) const override;

 private:
  struct Files;
  class Output;

  std::shared_ptr<Files> files_;
};

}  // namespace linchpin
