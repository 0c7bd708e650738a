// A store that asks for a stop at the n-th thing that is begun in it, and counts what
// is begun after that.
#pragma once

#include <atomic>
#include <memory>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status.h"
#include "storage/storage.h"

namespace linchpin {

// Thread-safe.
class StopAt {
 public:
  explicit StopAt(int number) : number_(number) {}

  // Something begins: an open, a listing, a read, a file, a write, a commit.
  void Begin() {
    if (stop_.stop_requested()) ++late_;
    if (begun_++ == number_) stop_.request_stop();
  }
  std::stop_token token() const { return stop_.get_token(); }
  int begun() const { return begun_; }
  int late() const { return late_; }

 private:
  const int number_;  // from 0
  std::stop_source stop_;
  std::atomic<int> begun_ = 0;
  std::atomic<int> late_ = 0;
};

class WatchedFile : public ReadableFile {
 public:
  WatchedFile(std::unique_ptr<ReadableFile> file, StopAt& stop)
      : file_(std::move(file)), stop_(stop) {}
  uint64_t size() const override { return file_->size(); }
  absl::Status ReadAt(uint64_t offset, absl::Span<std::byte> out) const override {
    stop_.Begin();
    return file_->ReadAt(offset, out);
  }
  absl::Status CheckUnchanged() const override {
    stop_.Begin();
    return file_->CheckUnchanged();
  }
  std::string Version() const override { return file_->Version(); }

 private:
  const std::unique_ptr<ReadableFile> file_;
  StopAt& stop_;
};

class WatchedOutputFile : public WritableFile {
 public:
  WatchedOutputFile(std::unique_ptr<WritableFile> file, StopAt& stop)
      : file_(std::move(file)), stop_(stop) {}
  absl::Status WriteAt(uint64_t offset, absl::Span<const std::byte> bytes) override {
    stop_.Begin();
    return file_->WriteAt(offset, bytes);
  }
  absl::Status ReadAt(uint64_t offset, absl::Span<std::byte> out) const override {
    stop_.Begin();
    return file_->ReadAt(offset, out);
  }

 private:
  const std::unique_ptr<WritableFile> file_;
  StopAt& stop_;
};

class WatchedOutput : public OutputDirectory {
 public:
  WatchedOutput(std::unique_ptr<OutputDirectory> output, StopAt& stop)
      : output_(std::move(output)), stop_(stop) {}
  absl::StatusOr<std::unique_ptr<WritableFile>> CreateFile(std::string_view name,
                                                           uint64_t size) override {
    stop_.Begin();
    ASSIGN_OR_RETURN(auto file, output_->CreateFile(name, size));
    return std::make_unique<WatchedOutputFile>(std::move(file), stop_);
  }
  absl::Status Commit() override {
    stop_.Begin();
    return output_->Commit();
  }

 private:
  const std::unique_ptr<OutputDirectory> output_;
  StopAt& stop_;
};

class WatchedStorage : public Storage {
 public:
  WatchedStorage(const Storage& storage, StopAt& stop) : storage_(storage), stop_(stop) {}
  absl::StatusOr<std::unique_ptr<ReadableFile>> Open(std::string_view path) const override {
    stop_.Begin();
    ASSIGN_OR_RETURN(auto file, storage_.Open(path));
    return std::make_unique<WatchedFile>(std::move(file), stop_);
  }
  absl::StatusOr<std::vector<FileEntry>> List(std::string_view directory) const override {
    stop_.Begin();
    return storage_.List(directory);
  }
  absl::StatusOr<bool> IsDirectory(std::string_view path) const override {
    stop_.Begin();
    return storage_.IsDirectory(path);
  }
  absl::StatusOr<std::unique_ptr<OutputDirectory>> CreateDirectory(std::string_view path,
                                                                   bool overwrite) const override {
    stop_.Begin();
    ASSIGN_OR_RETURN(auto output, storage_.CreateDirectory(path, overwrite));
    return std::make_unique<WatchedOutput>(std::move(output), stop_);
  }
  absl::Status RemoveDirectory(std::string_view path) const override {
    stop_.Begin();
    return storage_.RemoveDirectory(path);
  }

 private:
  const Storage& storage_;
  StopAt& stop_;
};

}  // namespace linchpin
