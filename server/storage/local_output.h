// The local OutputDirectory: a hidden temporary directory beside the
// destination that becomes the destination in one rename.
#pragma once

#include <linux/openat2.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <string_view>

#include "storage/file_descriptor.h"
#include "storage/storage.h"

namespace linchpin {

// A file that was opened in a local file system.
class LocalFile : public ReadableFile {
 public:
  virtual int descriptor() const = 0;
};

class LocalOutputDirectory : public OutputDirectory {
 public:
  // How names lead to files within it; the length of XXXXXX.
  static constexpr uint64_t kResolve =
      RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
  static constexpr size_t kSuffixLength = 6;

  struct Options {
    bool overwrite = false;
    bool durable = true;        // flush before it appears
    std::string_view key = {};  // empty: like no other's
  };
  // Makes `.NAME.linchpin-XXXXXX` in the open directory `parent`, which holds
  // or will hold `name`.  `path` is the destination as errors show it.
  // With the first file, what killed processes left there for the same name is
  // removed; but what one left under the same `key`, which then makes the XXXXXX, is
  // taken over.  An empty key is like no other's.
  static absl::StatusOr<std::unique_ptr<OutputDirectory>> Create(FileDescriptor parent,
                                                                 std::string name, std::string path,
                                                                 Options options);
  ~LocalOutputDirectory() override;

  absl::StatusOr<std::unique_ptr<WritableFile>> CreateFile(std::string_view name,
                                                           uint64_t size) override;
  // As a hard link; copied from another file system, or where there are no links.
  absl::Status TakeFile(std::string_view name, const ReadableFile& from,
                        const RunContext& context) override;
  absl::Status Commit() override;
  // Takes `name` away from the open directory `parent` at once, then removes it,
  // and whatever processes that died left for it.
  static absl::Status Remove(const FileDescriptor& parent, const std::string& name,
                             const std::string& path);
  bool KeepsNotes() const override { return notes_.valid(); }
  absl::StatusOr<std::string> EarlierNotes() const override { return earlier_notes_; }
  absl::Status Note(std::string_view text) override;

 private:
  LocalOutputDirectory(FileDescriptor parent, std::string name, std::string path, Options options)
      : parent_(std::move(parent)),
        name_(std::move(name)),
        path_(std::move(path)),
        options_(options) {}

  // `.NAME.linchpin-`
  static std::string TemporaryPrefix(std::string_view name);
  absl::Status MakeTemporary();
  // Whether what was opened as `fd` is what stands at `name` now.
  static bool StandsAt(int parent, const std::string& name, int fd);
  // What processes that died left for `of`: what nobody has locked.  Holds the lock
  // meanwhile.
  static void RemoveStale(int parent, const std::string& of);
  // Whether `.NAME.linchpin-KEY` is this process's now.
  absl::StatusOr<bool> TakeOver(std::string_view key);
  absl::Status OpenNotes();
  // What a killed process left and this one did not create.
  void RemoveLeftovers();
  absl::Status MakeFolders(std::string_view name);
  // Takes `name` for a file of this output, and makes the folders that it lies in.
  absl::Status Claim(std::string_view name);
  absl::Status Flush() const;
  absl::Status FlushParent() const;
  absl::Status Publish();
  // Takes back what was published and could not be flushed.
  void Withdraw();

  const FileDescriptor parent_;
  const std::string name_;
  const std::string path_;
  const Options options_;
  std::string temporary_name_;
  FileDescriptor temporary_;  // locked while this process writes there
  bool replaced_ = false;
  FileDescriptor replaced_directory_;  // locked while it may have to come back
  bool committed_ = false;

  FileDescriptor notes_;
  std::string earlier_notes_;

  std::mutex mutex_;
  std::set<std::string> files_;    // relative names, guarded by mutex_
  std::set<std::string> folders_;  // those of nested names, guarded by mutex_
};

}  // namespace linchpin
