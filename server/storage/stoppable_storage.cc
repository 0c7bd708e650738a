#include "storage/stoppable_storage.h"

#include <utility>

#include "base/run_context.h"
#include "base/status.h"

namespace linchpin {
namespace {

// One rule for all of them.
absl::Status Check(const std::stop_token& stop) { return RunContext{.stop = stop}.Check(); }

class StoppableFile : public ReadableFile {
 public:
  StoppableFile(std::unique_ptr<ReadableFile> file, std::stop_token stop)
      : file_(std::move(file)), stop_(std::move(stop)) {}

  const ReadableFile& file() const { return *file_; }
  uint64_t size() const override { return file_->size(); }
  absl::Status ReadAt(uint64_t offset, absl::Span<std::byte> out) const override {
    RETURN_IF_ERROR(Check(stop_));
    return file_->ReadAt(offset, out);
  }
  absl::Status CheckUnchanged() const override {
    RETURN_IF_ERROR(Check(stop_));
    return file_->CheckUnchanged();
  }
  std::string Version() const override { return file_->Version(); }

 private:
  const std::unique_ptr<ReadableFile> file_;
  const std::stop_token stop_;
};

class StoppableOutputFile : public WritableFile {
 public:
  StoppableOutputFile(std::unique_ptr<WritableFile> file, std::stop_token stop)
      : file_(std::move(file)), stop_(std::move(stop)) {}

  absl::Status WriteAt(uint64_t offset, absl::Span<const std::byte> bytes) override {
    RETURN_IF_ERROR(Check(stop_));
    return file_->WriteAt(offset, bytes);
  }
  absl::Status ReadAt(uint64_t offset, absl::Span<std::byte> out) const override {
    RETURN_IF_ERROR(Check(stop_));
    return file_->ReadAt(offset, out);
  }
  bool ReadableWhileWritten() const override { return file_->ReadableWhileWritten(); }

 private:
  const std::unique_ptr<WritableFile> file_;
  const std::stop_token stop_;
};

class StoppableOutput : public OutputDirectory {
 public:
  StoppableOutput(std::unique_ptr<OutputDirectory> output, std::stop_token stop)
      : output_(std::move(output)), stop_(std::move(stop)) {}

  absl::StatusOr<std::unique_ptr<WritableFile>> CreateFile(std::string_view name,
                                                           uint64_t size) override {
    RETURN_IF_ERROR(Check(stop_));
    ASSIGN_OR_RETURN(auto file, output_->CreateFile(name, size));
    return std::make_unique<StoppableOutputFile>(std::move(file), stop_);
  }
  absl::Status TakeFile(std::string_view name, const ReadableFile& from,
                        const RunContext& context) override {
    RETURN_IF_ERROR(Check(stop_));
    const auto* const own = dynamic_cast<const StoppableFile*>(&from);
    return output_->TakeFile(name, own == nullptr ? from : own->file(), context);
  }
  absl::Status Commit() override {
    RETURN_IF_ERROR(Check(stop_));
    return output_->Commit();
  }
  bool KeepsNotes() const override { return output_->KeepsNotes(); }
  absl::StatusOr<std::string> EarlierNotes() const override { return output_->EarlierNotes(); }
  absl::Status Note(std::string_view text) override {
    RETURN_IF_ERROR(Check(stop_));
    return output_->Note(text);
  }

 private:
  const std::unique_ptr<OutputDirectory> output_;
  const std::stop_token stop_;
};

}  // namespace

StoppableStorage::StoppableStorage(const Storage& storage, std::stop_token stop)
    : stop_(std::move(stop)),
      own_(storage.UntilStopped(stop_)),
      storage_(own_ != nullptr ? *own_ : storage) {}

absl::StatusOr<std::unique_ptr<ReadableFile>> StoppableStorage::Open(std::string_view path) const {
  RETURN_IF_ERROR(Check(stop_));
  ASSIGN_OR_RETURN(auto file, storage_.Open(path));
  return std::make_unique<StoppableFile>(std::move(file), stop_);
}

absl::StatusOr<std::vector<FileEntry>> StoppableStorage::List(std::string_view directory) const {
  RETURN_IF_ERROR(Check(stop_));
  return storage_.List(directory);
}

absl::StatusOr<bool> StoppableStorage::IsDirectory(std::string_view path) const {
  RETURN_IF_ERROR(Check(stop_));
  return storage_.IsDirectory(path);
}

std::string StoppableStorage::Canonical(std::string_view path) const {
  return storage_.Canonical(path);
}

absl::StatusOr<std::unique_ptr<OutputDirectory>> StoppableStorage::CreateDirectory(
    std::string_view path, bool overwrite) const {
  RETURN_IF_ERROR(Check(stop_));
  ASSIGN_OR_RETURN(auto output, storage_.CreateDirectory(path, overwrite));
  return std::make_unique<StoppableOutput>(std::move(output), stop_);
}

absl::Status StoppableStorage::RemoveDirectory(std::string_view path) const {
  RETURN_IF_ERROR(Check(stop_));
  return storage_.RemoveDirectory(path);
}

absl::StatusOr<std::unique_ptr<OutputDirectory>> StoppableStorage::ResumeDirectory(
    std::string_view path, bool overwrite, std::string_view key) const {
  RETURN_IF_ERROR(Check(stop_));
  ASSIGN_OR_RETURN(auto output, storage_.ResumeDirectory(path, overwrite, key));
  return std::make_unique<StoppableOutput>(std::move(output), stop_);
}

}  // namespace linchpin
