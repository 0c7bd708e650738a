// The local OutputDirectory: a hidden temporary directory beside the
// destination that becomes the destination in one rename.
#pragma once

#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <string_view>

#include "storage/file_descriptor.h"
#include "storage/storage.h"

namespace linchpin {

class LocalOutputDirectory : public OutputDirectory {
 public:
  struct Options {
    bool overwrite = false;
    bool durable = true;  // flush before it appears
  };
  // Makes `.NAME.linchpin-XXXXXX` in the open directory `parent`, which holds
  // or will hold `name`.  `path` is the destination as errors show it.
  // Removes what a killed process left there for the same name.
  static absl::StatusOr<std::unique_ptr<OutputDirectory>> Create(FileDescriptor parent,
                                                                 std::string name, std::string path,
                                                                 Options options);
  ~LocalOutputDirectory() override;

  absl::StatusOr<std::unique_ptr<WritableFile>> CreateFile(std::string_view name,
                                                           uint64_t size) override;
  absl::Status Commit() override;

 private:
  LocalOutputDirectory(FileDescriptor parent, std::string name, std::string path, Options options)
      : parent_(std::move(parent)),
        name_(std::move(name)),
        path_(std::move(path)),
        options_(options) {}

  absl::Status MakeTemporary();
  void RemoveStale() const;
  absl::Status MakeFolders(std::string_view name);
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
  bool committed_ = false;

  std::mutex mutex_;
  std::set<std::string> files_;    // relative names, guarded by mutex_
  std::set<std::string> folders_;  // those of nested names, guarded by mutex_
};

}  // namespace linchpin
