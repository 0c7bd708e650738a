// Storage by URI: sends every path to the store of its scheme, and lets nothing
// through that no configured prefix covers.
#pragma once

#include <map>
#include <memory>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "storage/storage.h"
#include "storage/uri.h"

namespace linchpin {

// Which URIs calls may use, besides what lies under the local roots.
struct UriPrefixes {
  std::vector<std::string> read;   // "s3://bucket/models", "hf://owner"
  std::vector<std::string> write;  // may be read, too
};

// A path without a scheme, and a file URI, go to the local store, which has
// rules of its own.  Any other URI must be covered by a prefix, or it is
// PATH_NOT_ALLOWED before anything is asked of a network; the message says
// nothing of what exists there.
class UriStorage : public Storage {
 public:
  using Stores = std::map<std::string, std::shared_ptr<const Storage>, std::less<>>;

  // `stores` by scheme, the local one as "file".  OPTION_INVALID for a prefix
  // that is no URI or whose scheme has no store.
  static absl::StatusOr<std::unique_ptr<UriStorage>> Create(Stores stores,
                                                            const UriPrefixes& prefixes);

  absl::StatusOr<std::unique_ptr<ReadableFile>> Open(std::string_view path) const override;
  absl::StatusOr<std::vector<FileEntry>> List(std::string_view directory) const override;
  absl::StatusOr<bool> IsDirectory(std::string_view path) const override;
  std::string Canonical(std::string_view path) const override;
  absl::StatusOr<std::unique_ptr<OutputDirectory>> ResumeDirectory(
      std::string_view path, bool overwrite, std::string_view key) const override;
  absl::StatusOr<std::unique_ptr<OutputDirectory>> CreateDirectory(std::string_view path,
                                                                   bool overwrite) const override;
  absl::Status RemoveDirectory(std::string_view path) const override;
  std::unique_ptr<Storage> UntilStopped(const std::stop_token& stop) const override;

  // The schemes that a prefix allows, and "file"; sorted.
  std::vector<std::string> schemes() const;

 private:
  UriStorage(Stores stores, std::vector<Uri> read, std::vector<Uri> write)
      : stores_(std::move(stores)), read_(std::move(read)), write_(std::move(write)) {}

  // A store, and the path as that store takes it.
  struct Route {
    const Storage* store = nullptr;
    std::string path;
  };
  absl::StatusOr<Route> Find(std::string_view path, const std::vector<Uri>& allowed) const;

  Stores stores_;
  std::vector<Uri> read_;  // those of write_ among them
  std::vector<Uri> write_;
};

}  // namespace linchpin
