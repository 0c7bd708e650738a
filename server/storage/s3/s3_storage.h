// Storage in S3 and in what speaks its protocol (MinIO, Ceph, GCS' XML API).
//
// A directory is what the keys below it make.  Keys below a component that
// begins with '.' are hidden, as files are; a directory that holds a commit
// mark (s3_output.h) is still being put in place and counts as not there.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "storage/http/block_cache.h"
#include "storage/s3/s3_client.h"
#include "storage/storage.h"

namespace linchpin {

// Paths are URIs of the client's scheme.
class S3Storage : public Storage {
 public:
  explicit S3Storage(S3Client client) : client_(std::move(client)) {}

  absl::StatusOr<std::unique_ptr<ReadableFile>> Open(std::string_view path) const override;
  absl::StatusOr<std::vector<FileEntry>> List(std::string_view directory) const override;
  absl::StatusOr<bool> IsDirectory(std::string_view path) const override;
  absl::StatusOr<std::unique_ptr<OutputDirectory>> CreateDirectory(std::string_view path,
                                                                   bool overwrite) const override;
  absl::Status RemoveDirectory(std::string_view path) const override;
  std::unique_ptr<Storage> UntilStopped(const std::stop_token& stop) const override;

 private:
  S3Client client_;
  std::shared_ptr<BlockCache> cache_ = std::make_shared<BlockCache>();
};

// An object for reading.
class StoredObject : public RemoteFile {
 public:
  StoredObject(const S3Client& client, Uri uri, FileVersion version, AskVersion ask,
               std::shared_ptr<BlockCache> cache)
      : RemoteFile(client.http(), client.Request(uri, "GET"), std::move(version), std::move(ask),
                   std::move(cache)),
        uri_(std::move(uri)) {}
  const Uri& uri() const { return uri_; }

 private:
  const Uri uri_;
};

// In the version that Head gave.
std::unique_ptr<ReadableFile> OpenObject(const S3Client& client, const Uri& uri,
                                         const FileVersion& version,
                                         std::shared_ptr<BlockCache> cache);

// Everything below a directory, hidden or not.
struct S3Listing {
  std::vector<S3Page::Object> objects;  // keys relative to the directory, sorted
  bool committing = false;              // it holds a commit mark
  bool visible = false;                 // a file of it is not hidden
};

// All pages, or those up to the first visible file.  STORAGE_FAILED for more than
// 100,000 objects.
enum class Extent { kAll, kUntilVisible };
absl::StatusOr<S3Listing> ListDirectory(const S3Client& client, const Uri& directory,
                                        Extent extent = Extent::kAll);

// directory/name
Uri Below(const Uri& directory, std::string_view name);

// True if a component of `name` begins with a dot.
bool IsHiddenKey(std::string_view name);

// The mark of a directory that is being put in place, and what the names of
// places begin with where outputs wait.
inline constexpr std::string_view kCommitMark = ".linchpin-commit";
inline constexpr std::string_view kStagePrefix = ".linchpin-stage-";

}  // namespace linchpin
