// Storage in memory: for artifacts that arrive and leave as bytes, and for tests.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "storage/storage.h"
#include "storage/zeroed_bytes.h"

namespace linchpin {

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
