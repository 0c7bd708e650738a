// Where bytes come from and go to: the one door to files.
//
// A path names a file or a directory in a store.  Implementations decide which
// paths exist and which are allowed; everything above sees this interface only.
// Errors everywhere: PATH_NOT_ALLOWED (says nothing of what exists there),
// SOURCE_NOT_FOUND, OUTPUT_EXISTS, STORAGE_FAILED (with the system's reason),
// SOURCE_CHANGED.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/run_context.h"

namespace linchpin {

// An existing file, opened read-only.  Thread-safe: ReadAt takes its own offset.
class ReadableFile {
 public:
  virtual ~ReadableFile() = default;
  // Bytes when it was opened.
  virtual uint64_t size() const = 0;
  // Fills all of `out` from `offset`; a file that is too short is SOURCE_CHANGED.
  virtual absl::Status ReadAt(uint64_t offset, absl::Span<std::byte> out) const = 0;
  // SOURCE_CHANGED if size or modification time are no longer those at opening.
  virtual absl::Status CheckUnchanged() const = 0;
  // Tells what was opened from whatever else may come to stand under its name, for
  // good; empty where the store cannot.
  virtual std::string Version() const { return ""; }
};

// A file being written, of a size fixed at creation.  Thread-safe for disjoint ranges.
class WritableFile {
 public:
  virtual ~WritableFile() = default;
  virtual absl::Status WriteAt(uint64_t offset, absl::Span<const std::byte> bytes) = 0;
  // Reads back what was written, to digest it.  A store of objects can do so
  // only once the whole file is written.
  virtual absl::Status ReadAt(uint64_t offset, absl::Span<std::byte> out) const = 0;
  // Whether ReadAt gives what was written before the whole file is.
  virtual bool ReadableWhileWritten() const { return true; }
};

// A directory that comes into being whole or not at all: files are created in a
// hidden place beside the destination and appear together with Commit.
// Destroyed without Commit, it leaves nothing behind.
class OutputDirectory {
 public:
  virtual ~OutputDirectory() = default;
  // `name` is relative, may contain '/', never "..".  Thread-safe.
  virtual absl::StatusOr<std::unique_ptr<WritableFile>> CreateFile(std::string_view name,
                                                                   uint64_t size) = 0;
  // Puts a file that the same store has already into the output as `name`, and
  // leaves it where it is.  Its bytes are copied only where the store can do
  // nothing better.
  virtual absl::Status TakeFile(std::string_view name, const ReadableFile& from,
                                const RunContext& context);
  // Flushes everything to the medium and renames.  OUTPUT_EXISTS if something
  // came to stand at the destination meanwhile and `overwrite` was not given.
  virtual absl::Status Commit() = 0;

  // What Storage::ResumeDirectory makes keeps notes beside the files, which outlive
  // the process and go with the commit.  A file that a killed process created is
  // then created with the bytes that it left there.
  virtual bool KeepsNotes() const { return false; }
  // All that were made before, by a process that was killed.  The last may be torn.
  virtual absl::StatusOr<std::string> EarlierNotes() const { return std::string(); }
  // Thread-safe.
  virtual absl::Status Note(std::string_view text);
};

// One regular file of a listing; `name` is relative to the listed directory.
struct FileEntry {
  std::string name;
  uint64_t size = 0;
};

// Thread-safe.
class Storage {
 public:
  virtual ~Storage() = default;
  virtual absl::StatusOr<std::unique_ptr<ReadableFile>> Open(std::string_view path) const = 0;
  // Regular files below `directory`, recursively, sorted by name; hidden files
  // and directories (a leading '.') are left out.
  virtual absl::StatusOr<std::vector<FileEntry>> List(std::string_view directory) const = 0;
  virtual absl::StatusOr<bool> IsDirectory(std::string_view path) const = 0;
  // The path without "." and "..", and, where the store has them, without links;
  // nothing needs to be there.  For telling whether two paths meet.
  virtual std::string Canonical(std::string_view path) const;
  // Refuses with OUTPUT_EXISTS at once if `path` exists and `overwrite` is false.
  virtual absl::StatusOr<std::unique_ptr<OutputDirectory>> CreateDirectory(
      std::string_view path, bool overwrite) const = 0;
  // Removes an output with all that it holds, hidden files too.  SOURCE_NOT_FOUND
  // where there is none; FEATURE_UNSUPPORTED of a store that is only read.
  virtual absl::Status RemoveDirectory(std::string_view path) const;
  // The same, for a job that goes on where a process that was killed at it stopped:
  // takes over what that left, where it named the same `key`, of 6 letters or digits
  // at least.  A store that cannot does as CreateDirectory.
  virtual absl::StatusOr<std::unique_ptr<OutputDirectory>> ResumeDirectory(
      std::string_view path, bool overwrite, std::string_view key) const;
  // The same store for one job: what waits for a network ends with CANCELLED
  // within a second of a stop.  Null where nothing waits for long.
  virtual std::unique_ptr<Storage> UntilStopped(const std::stop_token& stop) const;
};

// The whole of a small file as text.  Files larger than `limit` bytes are
// refused (HEADER_INVALID) before anything is read.
absl::StatusOr<std::string> ReadText(const Storage& storage, std::string_view path, uint64_t limit);

}  // namespace linchpin
