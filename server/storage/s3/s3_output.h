// The OutputDirectory in S3: as whole or not at all as a store without renames
// can make it.
//
// Large files wait under a hidden key in the destination
// (.linchpin-stage-ID/NAME), small ones in memory.  Commit sets a mark
// (.linchpin-commit), copies everything into place within the store, the file
// that was created last, the manifest, at the very end, and takes the mark
// away.  So
//   - until the commit nothing but hidden keys is there;
//   - while the mark stands our own reading takes the directory for not there;
//     other readers must take an artifact without its manifest for unfinished;
//   - of two writers one sets the mark or the manifest first (If-None-Match: *,
//     where the store knows it), the other gets OUTPUT_EXISTS;
//   - a writer that died at its commit leaves the mark: for ten minutes others
//     get STORAGE_FAILED, then one takes its place and removes what was there.
// Uploads that a killed process began and never finished are for a lifecycle
// rule of the bucket (AbortIncompleteMultipartUpload).
#pragma once

#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "storage/s3/s3_client.h"
#include "storage/s3/s3_output_file.h"
#include "storage/s3/s3_storage.h"
#include "storage/storage.h"

namespace linchpin {

class S3Output : public OutputDirectory {
 public:
  // OUTPUT_EXISTS where something stands already, unless it may be overwritten.
  // Removes what writers that died more than a day ago left there.
  static absl::StatusOr<std::unique_ptr<OutputDirectory>> Create(S3Client client, Uri directory,
                                                                 bool overwrite,
                                                                 std::shared_ptr<BlockCache> cache);
  ~S3Output() override;

  absl::StatusOr<std::unique_ptr<WritableFile>> CreateFile(std::string_view name,
                                                           uint64_t size) override;
  // An object of S3 is copied by the store, at the commit.
  absl::Status TakeFile(std::string_view name, const ReadableFile& from,
                        const RunContext& context) override;
  absl::Status Commit() override;

 private:
  // Written here, or taken over.
  struct File {
    std::string name;
    std::shared_ptr<S3OutputFile> data;  // null if taken
    Uri taken;
    uint64_t taken_bytes = 0;

    bool IsSmall() const { return data != nullptr && data->IsSmall(); }
    absl::Status Publish(const S3Client& client, const Uri& place, bool create) const;
  };
  S3Output(S3Client client, Uri directory, bool overwrite, std::shared_ptr<BlockCache> cache);

  absl::Status CheckFree();
  // Adds a file; OUTPUT_EXISTS for a name that there is already.
  absl::Status Add(File file);
  // Sets the commit mark; true if it was taken from a writer that died.
  absl::StatusOr<bool> Mark();
  absl::Status PutInPlace(const S3Listing& before, std::set<std::string>& placed);
  absl::Status RemoveOthers(const S3Listing& before);
  void DiscardAll();
  void RemoveStale(const S3Listing& listing, SystemTime now) const;

  const S3Client client_;
  const S3Client cleaner_;  // works on after a stop
  const Uri directory_;
  const bool overwrite_;
  const std::shared_ptr<BlockCache> cache_;
  const std::string id_;

  std::mutex mutex_;
  std::vector<File> files_;      // in the order of creation, guarded by mutex_
  std::set<std::string> names_;  // guarded by mutex_
  bool committed_ = false;
};

}  // namespace linchpin
