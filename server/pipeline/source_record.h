// What was read of the source of a job in parts to learn what it is: recorded by the
// first call in the job's store, and replayed for the workers, which need not open,
// list and read every file of a large model for a shard of it.
//
// Nothing is taken on trust: from what is replayed a worker makes the job's key, which
// covers it, and of the file that it works on it reads the same bytes itself.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "pipeline/shard_job.h"
#include "storage/storage.h"

namespace linchpin {

struct SourceRecord {
  struct File {
    uint64_t size = 0;
    std::map<std::pair<uint64_t, uint64_t>, std::string> ranges;  // by offset and length
  };
  // By path, as asked for.
  std::map<std::string, File, std::less<>> files;
  std::map<std::string, std::vector<FileEntry>, std::less<>> listings;
  std::map<std::string, bool, std::less<>> directories;
};

// Only read.  Thread-safe.
class RecordingStorage : public Storage {
 public:
  // `storage` must outlive this, and this what is opened.
  explicit RecordingStorage(const Storage& storage) : storage_(storage) {}

  // What was read up to now; from here on nothing is recorded.
  SourceRecord Take();

  absl::StatusOr<std::unique_ptr<ReadableFile>> Open(std::string_view path) const override;
  absl::StatusOr<std::vector<FileEntry>> List(std::string_view directory) const override;
  absl::StatusOr<bool> IsDirectory(std::string_view path) const override;
  absl::StatusOr<std::unique_ptr<OutputDirectory>> CreateDirectory(std::string_view path,
                                                                   bool overwrite) const override;

 private:
  class File;
  const Storage& storage_;
  mutable std::mutex mutex_;
  mutable bool recording_ = true;  // guarded by mutex_
  mutable SourceRecord record_;    // likewise
};

// Answers from a record, and for the rest from the store.  Only read.  Thread-safe.
class ReplayedStorage : public Storage {
 public:
  // `storage` must outlive this, and this what is opened.
  ReplayedStorage(const Storage& storage, SourceRecord record)
      : storage_(storage), record_(std::move(record)) {}

  // SOURCE_CHANGED unless the recorded files of that name have the size and the bytes
  // that were recorded.
  absl::Status CheckFile(std::string_view name) const;

  absl::StatusOr<std::unique_ptr<ReadableFile>> Open(std::string_view path) const override;
  absl::StatusOr<std::vector<FileEntry>> List(std::string_view directory) const override;
  absl::StatusOr<bool> IsDirectory(std::string_view path) const override;
  absl::StatusOr<std::unique_ptr<OutputDirectory>> CreateDirectory(std::string_view path,
                                                                   bool overwrite) const override;

 private:
  class File;
  const Storage& storage_;
  const SourceRecord record_;
};

// Where it stands.
std::string SourceRecordDirectory(const ShardJob& job);

// Writes it beside the job's destination.
absl::Status WriteSourceRecord(const Storage& storage, const ShardJob& job,
                               const SourceRecord& record);

// Null where there is none, or none that can be read: then the source tells itself.
std::unique_ptr<ReplayedStorage> ReplaySource(const Storage& storage, const ShardJob& job);

}  // namespace linchpin
