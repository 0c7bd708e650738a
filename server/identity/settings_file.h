// The files that an operator gives the server, and changes while it runs.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "base/status.h"

namespace linchpin {

// The whole of a file of at most 1 MiB.  OPTION_INVALID naming it otherwise.
absl::StatusOr<std::string> ReadSettingsFile(const std::string& path);

// What tells one state of a file from another: inode, size and time of change.
// Empty if it is not there.
std::string FileStamp(const std::string& path);

// What a file says, read again when the file has changed.  A change that cannot
// be read leaves the last good state in force.  Thread-safe.
template <class Value>
class ReloadedFile {
 public:
  using Parse = std::function<absl::StatusOr<Value>(const std::string& path, std::string text)>;

  static absl::StatusOr<std::unique_ptr<ReloadedFile>> Open(std::string path, Parse parse) {
    std::unique_ptr<ReloadedFile> file(new ReloadedFile(std::move(path), std::move(parse)));
    file->stamp_ = FileStamp(file->path_);
    RETURN_IF_ERROR(file->Read());
    return file;
  }

  // Looks at the file at most once a second.  What is new is read once more at the
  // next look: a change within one tick of the file system's clock bears no other stamp.
  std::shared_ptr<const Value> Get() {
    std::lock_guard lock(mutex_);
    const auto now = std::chrono::steady_clock::now();
    if (now - looked_ < std::chrono::seconds(1)) return value_;
    looked_ = now;
    std::string stamp = FileStamp(path_);
    if (stamp == stamp_ && settled_) return value_;
    settled_ = stamp == stamp_;
    if (Read().ok()) stamp_ = std::move(stamp);
    return value_;
  }

 private:
  ReloadedFile(std::string path, Parse parse) : path_(std::move(path)), parse_(std::move(parse)) {}

  absl::Status Read() {
    ASSIGN_OR_RETURN(std::string text, ReadSettingsFile(path_));
    ASSIGN_OR_RETURN(Value value, parse_(path_, std::move(text)));
    value_ = std::make_shared<const Value>(std::move(value));
    return absl::OkStatus();
  }

  const std::string path_;
  const Parse parse_;
  std::mutex mutex_;
  std::string stamp_;
  bool settled_ = false;  // read since it was seen to bear stamp_
  std::chrono::steady_clock::time_point looked_ = std::chrono::steady_clock::now();
  std::shared_ptr<const Value> value_;
};

}  // namespace linchpin
