// Storage on the local file system, confined to configured roots.
//
// Every path is opened beneath one of the roots with openat2(RESOLVE_BENEATH |
// RESOLVE_NO_MAGICLINKS, and RESOLVE_NO_SYMLINKS unless allowed); only regular
// files are read.  Output is written under a hidden temporary name in the
// destination's parent, flushed with fsync and renamed without replacing.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "storage/file_descriptor.h"
#include "storage/storage.h"

namespace linchpin {

struct LocalStorageOptions {
  std::vector<std::string> read_roots;   // absolute directories that may be read
  std::vector<std::string> write_roots;  // absolute directories that may be written (and read)
  // Follow symbolic links that stay beneath a root.  For a private server only:
  // model caches consist of links.
  bool allow_symlinks = false;
  // Flush what is written before it appears.  Off for what no crash may outlive.
  bool durable = true;
};

// Paths are absolute; "." and ".." are resolved in their text before anything
// is opened.  Refuses with PATH_NOT_ALLOWED what lies outside the roots, saying
// nothing of what exists there, a link where links are not followed, and
// anything but a regular file.
class LocalStorage : public Storage {
 public:
  // OPTION_INVALID for a root that is not an existing absolute directory.
  static absl::StatusOr<std::unique_ptr<LocalStorage>> Create(LocalStorageOptions options);

  absl::StatusOr<std::unique_ptr<ReadableFile>> Open(std::string_view path) const override;
  // Symbolic links: followed to regular files where links are allowed,
  // otherwise an error, as a file that is silently left out would be missed.
  absl::StatusOr<std::vector<FileEntry>> List(std::string_view directory) const override;
  absl::StatusOr<bool> IsDirectory(std::string_view path) const override;
  std::string Canonical(std::string_view path) const override;
  // The parent of `path` must exist.  With `overwrite` only a directory is replaced.
  absl::StatusOr<std::unique_ptr<OutputDirectory>> ResumeDirectory(
      std::string_view path, bool overwrite, std::string_view key) const override;
  absl::StatusOr<std::unique_ptr<OutputDirectory>> CreateDirectory(std::string_view path,
                                                                   bool overwrite) const override;
  absl::Status RemoveDirectory(std::string_view path) const override;

 private:
  // Where an output stands, or will.
  struct Place {
    FileDescriptor parent;
    std::string name;
    std::string path;
  };
  absl::StatusOr<Place> PlaceOf(std::string_view path) const;

  explicit LocalStorage(LocalStorageOptions options) : options_(std::move(options)) {}

  LocalStorageOptions options_;
};

}  // namespace linchpin
