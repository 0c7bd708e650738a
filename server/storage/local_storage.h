// Storage on the local file system, confined to configured roots.
//
// Every path is opened beneath one of the roots with openat2(RESOLVE_BENEATH |
// RESOLVE_NO_MAGICLINKS, and RESOLVE_NO_SYMLINKS unless allowed); only regular
// files are read.  Output is written under a hidden temporary name in the
// destination's parent, flushed with fsync and renamed without replacing.
#pragma once

#include <string>
#include <vector>

#include "storage/storage.h"

namespace linchpin {

struct LocalStorageOptions {
  std::vector<std::string> read_roots;   // absolute directories that may be read
  std::vector<std::string> write_roots;  // absolute directories that may be written (and read)
  // Follow symbolic links that stay beneath a root.  For a private server only:
  // model caches consist of links.
  bool allow_symlinks = false;
};

class LocalStorage : public Storage {
 public:
  // OPTION_INVALID for a root that is not an existing absolute directory.
  static absl::StatusOr<std::unique_ptr<LocalStorage>> Create(LocalStorageOptions options);

  absl::StatusOr<std::unique_ptr<ReadableFile>> Open(std::string_view path) const override;
  absl::StatusOr<std::vector<FileEntry>> List(std::string_view directory) const override;
  absl::StatusOr<bool> IsDirectory(std::string_view path) const override;
  absl::StatusOr<std::unique_ptr<OutputDirectory>> CreateDirectory(std::string_view path,
                                                                   bool overwrite) const override;

 private:
  explicit LocalStorage(LocalStorageOptions options) : options_(std::move(options)) {}

  LocalStorageOptions options_;
};

}  // namespace linchpin
