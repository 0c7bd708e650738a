#include "storage/memory_storage.h"

#include <algorithm>
#include <cstring>
#include <new>

#include "base/status.h"
#include "fmt/format.h"
#include "storage/relative_name.h"

namespace linchpin {

// Shared with the outputs, which may outlive a moved storage.
struct MemoryStorage::Files {
  std::mutex mutex;
  std::map<std::string, Bytes, std::less<>> by_path;
};

namespace {

using Bytes = MemoryStorage::Bytes;
using PathMap = std::map<std::string, Bytes, std::less<>>;

class MemoryReadableFile : public ReadableFile {
 public:
  MemoryReadableFile(Bytes bytes, std::string path)
      : bytes_(std::move(bytes)), path_(std::move(path)), size_(bytes_->size()) {}

  uint64_t size() const override { return size_; }

  absl::Status ReadAt(uint64_t offset, absl::Span<std::byte> out) const override {
    RETURN_IF_ERROR(CheckUnchanged());
    if (offset > size_ || out.size() > size_ - offset) {
      return Error(
          Reason::kSourceChanged, path_,
          fmt::format("bytes {} to {} of a file of {}", offset, offset + out.size(), size_));
    }
    if (!out.empty()) std::memcpy(out.data(), bytes_->data() + offset, out.size());
    return absl::OkStatus();
  }

  absl::Status CheckUnchanged() const override {
    if (bytes_->size() == size_) return absl::OkStatus();
    return Error(Reason::kSourceChanged, path_, "the file was changed while it was read");
  }

 private:
  Bytes bytes_;
  std::string path_;
  uint64_t size_;
};

class MemoryWritableFile : public WritableFile {
 public:
  MemoryWritableFile(Bytes bytes, std::string path)
      : bytes_(std::move(bytes)), path_(std::move(path)) {}

  absl::Status WriteAt(uint64_t offset, absl::Span<const std::byte> bytes) override {
    RETURN_IF_ERROR(CheckRange(offset, bytes.size()));
    bytes_->Written(offset + bytes.size());
    if (!bytes.empty()) std::memcpy(bytes_->data() + offset, bytes.data(), bytes.size());
    return absl::OkStatus();
  }
  absl::Status ReadAt(uint64_t offset, absl::Span<std::byte> out) const override {
    RETURN_IF_ERROR(CheckRange(offset, out.size()));
    if (!out.empty()) std::memcpy(out.data(), bytes_->data() + offset, out.size());
    return absl::OkStatus();
  }

 private:
  absl::Status CheckRange(uint64_t offset, uint64_t count) const {
    if (offset <= bytes_->size() && count <= bytes_->size() - offset) return absl::OkStatus();
    return Error(
        Reason::kInternal, path_,
        fmt::format("bytes {} to {} of a file of {}", offset, offset + count, bytes_->size()));
  }

  Bytes bytes_;
  std::string path_;
};

// Zeros, or null where there is no memory for them.
Bytes Allocate(uint64_t size) {
  constexpr uint64_t kMost = uint64_t{1} << 40;
  if (size > kMost) return nullptr;
  try {
    return std::make_shared<ZeroedBytes>(size);
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
}

// Keys are compared as text, so one spelling must do: no trailing slash.
std::string Key(std::string_view path) {
  while (path.size() > 1 && path.back() == '/') path.remove_suffix(1);
  return std::string(path);
}

std::string Below(const std::string& directory) {
  return directory.empty() || directory == "/" ? directory : directory + "/";
}

bool HasBelow(const PathMap& files, const std::string& directory) {
  const std::string prefix = Below(directory);
  const auto first = files.lower_bound(prefix);
  return first != files.end() && first->first.starts_with(prefix);
}

bool IsHidden(std::string_view name) {
  return name.front() == '.' || name.find("/.") != std::string_view::npos;
}

absl::Status NotFound(std::string_view path) {
  return Error(Reason::kSourceNotFound, path, "no such file or directory");
}

absl::Status OutputExists(std::string_view path) {
  return Error(Reason::kOutputExists, path, "already exists",
               "choose another output or ask to overwrite");
}

}  // namespace

class MemoryStorage::Output : public OutputDirectory {
 public:
  Output(std::shared_ptr<Files> files, std::string path, bool overwrite)
      : files_(std::move(files)), path_(std::move(path)), overwrite_(overwrite) {}

  absl::StatusOr<std::unique_ptr<WritableFile>> CreateFile(std::string_view name,
                                                           uint64_t size) override {
    RETURN_IF_ERROR(CheckRelativeName(name));
    const std::string path = Below(path_) + std::string(name);
    const Bytes bytes = Allocate(size);
    if (bytes == nullptr) {
      return Error(Reason::kStorageFailed, path, fmt::format("no memory for {} bytes", size));
    }
    const std::lock_guard lock(mutex_);
    if (!pending_.emplace(path, bytes).second) return OutputExists(path);
    return std::make_unique<MemoryWritableFile>(bytes, path);
  }

  absl::Status Commit() override {
    const std::scoped_lock lock(mutex_, files_->mutex);
    PathMap& files = files_->by_path;
    if (files.contains(path_)) return OutputExists(path_);
    const std::string prefix = Below(path_);
    const auto first = files.lower_bound(prefix);
    const auto last = std::find_if(
        first, files.end(), [&](const auto& file) { return !file.first.starts_with(prefix); });
    if (first != last && !overwrite_) return OutputExists(path_);
    files.erase(first, last);
    files.merge(pending_);
    return absl::OkStatus();
  }

 private:
  const std::shared_ptr<Files> files_;
  const std::string path_;
  const bool overwrite_;
  std::mutex mutex_;
  PathMap pending_;
};

MemoryStorage::MemoryStorage() : files_(std::make_shared<Files>()) {}

void MemoryStorage::Put(const std::string& path, Bytes bytes) {
  const std::lock_guard lock(files_->mutex);
  files_->by_path[Key(path)] = std::move(bytes);
}

MemoryStorage::Bytes MemoryStorage::Get(std::string_view path) const {
  const std::lock_guard lock(files_->mutex);
  const auto file = files_->by_path.find(Key(path));
  return file == files_->by_path.end() ? nullptr : file->second;
}

void MemoryStorage::Remove(std::string_view path) {
  const std::lock_guard lock(files_->mutex);
  files_->by_path.erase(Key(path));
}

absl::StatusOr<std::unique_ptr<ReadableFile>> MemoryStorage::Open(std::string_view path) const {
  Bytes bytes = Get(path);
  if (bytes == nullptr) {
    const absl::StatusOr<bool> directory = IsDirectory(path);
    if (!directory.ok()) return directory.status();
    return Error(Reason::kPathNotAllowed, path, "a directory, not a file");
  }
  return std::make_unique<MemoryReadableFile>(std::move(bytes), std::string(path));
}

absl::StatusOr<std::vector<FileEntry>> MemoryStorage::List(std::string_view directory) const {
  const std::lock_guard lock(files_->mutex);
  const std::string prefix = Below(Key(directory));
  std::vector<FileEntry> entries;
  bool found = false;
  for (auto file = files_->by_path.lower_bound(prefix);
       file != files_->by_path.end() && file->first.starts_with(prefix); ++file) {
    found = true;
    std::string name = file->first.substr(prefix.size());
    if (!IsHidden(name)) entries.push_back({std::move(name), file->second->size()});
  }
  if (!found) return NotFound(directory);
  return entries;
}

absl::StatusOr<bool> MemoryStorage::IsDirectory(std::string_view path) const {
  const std::lock_guard lock(files_->mutex);
  const std::string key = Key(path);
  if (files_->by_path.contains(key)) return false;
  if (HasBelow(files_->by_path, key)) return true;
  return NotFound(path);
}

absl::Status MemoryStorage::RemoveDirectory(std::string_view path) const {
  const std::lock_guard lock(files_->mutex);
  const std::string prefix = Below(Key(path));
  const auto removed = std::erase_if(
      files_->by_path, [&](const auto& file) { return file.first.starts_with(prefix); });
  return removed > 0 ? absl::OkStatus() : NotFound(path);
}

absl::StatusOr<std::unique_ptr<OutputDirectory>> MemoryStorage::CreateDirectory(
    std::string_view path, bool overwrite) const {
  std::string key = Key(path);
  const std::lock_guard lock(files_->mutex);
  if (files_->by_path.contains(key) || (!overwrite && HasBelow(files_->by_path, key))) {
    return OutputExists(path);
  }
  return std::make_unique<Output>(files_, std::move(key), overwrite);
}

}  // namespace linchpin
