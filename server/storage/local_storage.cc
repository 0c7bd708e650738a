#include "storage/local_storage.h"

#include <filesystem>
#include <system_error>

#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>

#include "base/status.h"
#include "fmt/format.h"
#include "storage/confined_path.h"
#include "storage/file_descriptor.h"
#include "storage/local_output.h"

namespace linchpin {
namespace {

constexpr int kMaxListingDepth = 16;
constexpr size_t kMaxListingEntries = 100'000;
// Not blocked by a FIFO, no controlling terminal.
constexpr int kOpenFlags = O_RDONLY | O_NONBLOCK | O_NOCTTY;

absl::Status NotRegular(std::string_view path, mode_t mode) {
  return Error(Reason::kPathNotAllowed, path,
               S_ISDIR(mode) ? "a directory, not a file" : "not a regular file");
}

class LocalReadableFile : public LocalFile {
 public:
  LocalReadableFile(FileDescriptor fd, std::string path, const struct stat& info)
      : fd_(std::move(fd)),
        path_(std::move(path)),
        size_(static_cast<uint64_t>(info.st_size)),
        modified_(info.st_mtim),
        version_(fmt::format("{}:{} {} {}.{:09} {}.{:09}", info.st_dev, info.st_ino, info.st_size,
                             info.st_mtim.tv_sec, info.st_mtim.tv_nsec, info.st_ctim.tv_sec,
                             info.st_ctim.tv_nsec)) {}

  uint64_t size() const override { return size_; }
  int descriptor() const override { return fd_.get(); }
  std::string Version() const override { return version_; }

  absl::Status ReadAt(uint64_t offset, absl::Span<std::byte> out) const override {
    return ReadFully(fd_.get(), path_, offset, out);
  }

  absl::Status CheckUnchanged() const override {
    struct stat info;
    if (fstat(fd_.get(), &info) != 0) return SystemError(path_, "stat", errno);
    if (static_cast<uint64_t>(info.st_size) == size_ && info.st_mtim.tv_sec == modified_.tv_sec &&
        info.st_mtim.tv_nsec == modified_.tv_nsec) {
      return absl::OkStatus();
    }
    return Error(Reason::kSourceChanged, path_, "the file was changed while it was read",
                 "run again when it no longer changes");
  }

 private:
  FileDescriptor fd_;
  std::string path_;
  uint64_t size_;
  timespec modified_;
  std::string version_;  // the change time cannot be set back, as that of modification can
};

// Walks a directory; descriptors are relative to the one that was opened
// beneath a root, so a directory swapped for a link on the way leads nowhere.
class Lister {
 public:
  Lister(const std::vector<std::string>& roots, std::string top, bool allow_symlinks)
      : roots_(roots), top_(std::move(top)), allow_symlinks_(allow_symlinks) {}

  absl::Status Walk(FileDescriptor directory, const std::string& prefix, int depth) {
    if (depth > kMaxListingDepth) {
      return Error(Reason::kStorageFailed, top_ + "/" + prefix, "directories nested too deep");
    }
    const int fd = directory.get();
    const std::unique_ptr<DIR, int (*)(DIR*)> stream(fdopendir(fd), &closedir);
    if (stream == nullptr) return SystemError(top_, "list", errno);
    directory.Release();
    errno = 0;
    while (const dirent* entry = readdir(stream.get())) {
      const std::string name = entry->d_name;
      if (name.front() != '.') RETURN_IF_ERROR(Visit(fd, name, prefix + name, depth));
      errno = 0;
    }
    return errno == 0 ? absl::OkStatus() : SystemError(top_, "list", errno);
  }

  std::vector<FileEntry> Take() {
    std::sort(files_.begin(), files_.end(),
              [](const FileEntry& a, const FileEntry& b) { return a.name < b.name; });
    return std::move(files_);
  }

 private:
  absl::Status Visit(int directory, const std::string& name, const std::string& relative,
                     int depth) {
    struct stat info;
    if (fstatat(directory, name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0) {
      return errno == ENOENT ? absl::OkStatus() : SystemError(top_ + "/" + relative, "stat", errno);
    }
    if (S_ISLNK(info.st_mode)) return VisitLink(relative);
    if (S_ISREG(info.st_mode)) return Add(relative, info);
    if (!S_ISDIR(info.st_mode)) return absl::OkStatus();
    FileDescriptor child = OpenWithin(directory, name, kOpenFlags | O_DIRECTORY,
                                      RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS);
    if (!child.valid()) return SystemError(top_ + "/" + relative, "list", errno);
    return Walk(std::move(child), relative + "/", depth + 1);
  }

  absl::Status VisitLink(const std::string& relative) {
    const std::string path = top_ + "/" + relative;
    if (!allow_symlinks_) return LinkNotFollowed(path);
    ASSIGN_OR_RETURN(const FileDescriptor target, OpenBeneath(roots_, path, O_PATH, true));
    struct stat info;
    if (fstat(target.get(), &info) != 0) return SystemError(path, "stat", errno);
    return S_ISREG(info.st_mode) ? Add(relative, info) : absl::OkStatus();
  }

  absl::Status Add(const std::string& relative, const struct stat& info) {
    if (files_.size() == kMaxListingEntries) {
      return Error(Reason::kStorageFailed, top_,
                   fmt::format("holds more than {} files", kMaxListingEntries),
                   "give a directory that holds the model alone");
    }
    files_.push_back({relative, static_cast<uint64_t>(info.st_size)});
    return absl::OkStatus();
  }

  const std::vector<std::string>& roots_;
  const std::string top_;
  const bool allow_symlinks_;
  std::vector<FileEntry> files_;
};

absl::Status NormalizeRoots(std::vector<std::string>& roots) {
  for (std::string& root : roots) {
    const absl::StatusOr<std::string> normal = NormalPath(root);
    struct stat info;
    if (!normal.ok() || stat(normal->c_str(), &info) != 0 || !S_ISDIR(info.st_mode)) {
      return Error(Reason::kOptionInvalid, fmt::format("root {}", root),
                   "not an existing absolute directory", "create it or name another");
    }
    root = *normal;
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<LocalStorage>> LocalStorage::Create(LocalStorageOptions options) {
  RETURN_IF_ERROR(NormalizeRoots(options.read_roots));
  RETURN_IF_ERROR(NormalizeRoots(options.write_roots));
  options.read_roots.insert(options.read_roots.end(), options.write_roots.begin(),
                            options.write_roots.end());
  return std::unique_ptr<LocalStorage>(new LocalStorage(std::move(options)));
}

absl::StatusOr<std::unique_ptr<ReadableFile>> LocalStorage::Open(std::string_view path) const {
  ASSIGN_OR_RETURN(std::string normal, NormalPath(path));
  ASSIGN_OR_RETURN(FileDescriptor fd,
                   OpenBeneath(options_.read_roots, normal, kOpenFlags, options_.allow_symlinks));
  struct stat info;
  if (fstat(fd.get(), &info) != 0) return SystemError(normal, "stat", errno);
  if (!S_ISREG(info.st_mode)) return NotRegular(normal, info.st_mode);
  return std::make_unique<LocalReadableFile>(std::move(fd), std::move(normal), info);
}

absl::StatusOr<std::vector<FileEntry>> LocalStorage::List(std::string_view directory) const {
  ASSIGN_OR_RETURN(const std::string normal, NormalPath(directory));
  ASSIGN_OR_RETURN(
      FileDescriptor fd,
      OpenBeneath(options_.read_roots, normal, kOpenFlags | O_DIRECTORY, options_.allow_symlinks));
  Lister lister(options_.read_roots, normal, options_.allow_symlinks);
  RETURN_IF_ERROR(lister.Walk(std::move(fd), "", 0));
  return lister.Take();
}

std::string LocalStorage::Canonical(std::string_view path) const {
  std::error_code error;
  const std::filesystem::path resolved = std::filesystem::weakly_canonical(path, error);
  return Storage::Canonical(error ? std::string(path) : resolved.string());
}

absl::StatusOr<bool> LocalStorage::IsDirectory(std::string_view path) const {
  ASSIGN_OR_RETURN(const std::string normal, NormalPath(path));
  ASSIGN_OR_RETURN(const FileDescriptor fd,
                   OpenBeneath(options_.read_roots, normal, O_PATH, options_.allow_symlinks));
  struct stat info;
  if (fstat(fd.get(), &info) != 0) return SystemError(normal, "stat", errno);
  return S_ISDIR(info.st_mode);
}

absl::StatusOr<LocalStorage::Place> LocalStorage::PlaceOf(std::string_view path) const {
  ASSIGN_OR_RETURN(std::string normal, NormalPath(path));
  const auto& roots = options_.write_roots;
  const size_t slash = normal.rfind('/');
  std::string name = normal.substr(slash + 1);
  if (name.empty() || std::find(roots.begin(), roots.end(), normal) != roots.end()) {
    return Error(Reason::kPathNotAllowed, path, "a root itself cannot be an output",
                 "name a directory beneath it");
  }
  const std::string parent_path = slash == 0 ? "/" : normal.substr(0, slash);
  absl::StatusOr<FileDescriptor> parent =
      OpenBeneath(roots, parent_path, O_RDONLY | O_DIRECTORY, options_.allow_symlinks);
  if (!parent.ok() && ReasonOf(parent.status()) == Reason::kSourceNotFound) {
    return Error(Reason::kSourceNotFound, parent_path, "no such directory for the output",
                 "create it");
  }
  RETURN_IF_ERROR(parent.status());
  return Place{*std::move(parent), std::move(name), std::move(normal)};
}

absl::StatusOr<std::unique_ptr<OutputDirectory>> LocalStorage::CreateDirectory(
    std::string_view path, bool overwrite) const {
  return ResumeDirectory(path, overwrite, "");
}

absl::StatusOr<std::unique_ptr<OutputDirectory>> LocalStorage::ResumeDirectory(
    std::string_view path, bool overwrite, std::string_view key) const {
  ASSIGN_OR_RETURN(Place place, PlaceOf(path));
  return LocalOutputDirectory::Create(
      std::move(place.parent), std::move(place.name), std::move(place.path),
      {.overwrite = overwrite, .durable = options_.durable, .key = key});
}

absl::Status LocalStorage::RemoveDirectory(std::string_view path) const {
  ASSIGN_OR_RETURN(const Place place, PlaceOf(path));
  return LocalOutputDirectory::Remove(place.parent, place.name, place.path);
}

}  // namespace linchpin
