#include "storage/local_output.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <climits>
#include <cstdio>
#include <random>

#include "base/status.h"
#include "fmt/format.h"
#include "storage/relative_name.h"

namespace linchpin {
namespace {

constexpr uint64_t kResolve = LocalOutputDirectory::kResolve;
constexpr std::string_view kMark = ".linchpin-";
constexpr size_t kSuffixLength = LocalOutputDirectory::kSuffixLength;

class LocalWritableFile : public WritableFile {
 public:
  LocalWritableFile(FileDescriptor fd, std::string path, uint64_t size)
      : fd_(std::move(fd)), path_(std::move(path)), size_(size) {}

  absl::Status WriteAt(uint64_t offset, absl::Span<const std::byte> bytes) override {
    RETURN_IF_ERROR(CheckRange(offset, bytes.size()));
    RETURN_IF_ERROR(WriteFully(fd_.get(), path_, offset, bytes));
    // On its way to the medium at once, so that the commit has little to wait for.
    constexpr size_t kWorthwhile = size_t{256} << 10;
    if (bytes.size() >= kWorthwhile) {
      sync_file_range(fd_.get(), static_cast<off_t>(offset), static_cast<off_t>(bytes.size()),
                      SYNC_FILE_RANGE_WRITE);
    }
    return absl::OkStatus();
  }
  absl::Status ReadAt(uint64_t offset, absl::Span<std::byte> out) const override {
    RETURN_IF_ERROR(CheckRange(offset, out.size()));
    return ReadFully(fd_.get(), path_, offset, out);
  }

 private:
  absl::Status CheckRange(uint64_t offset, uint64_t count) const {
    if (offset <= size_ && count <= size_ - offset) return absl::OkStatus();
    return Error(Reason::kInternal, path_,
                 fmt::format("bytes {} to {} of a file of {}", offset, offset + count, size_));
  }

  FileDescriptor fd_;
  std::string path_;
  uint64_t size_;
};

bool Exists(int directory, const std::string& name) {
  struct stat info;
  return fstatat(directory, name.c_str(), &info, AT_SYMLINK_NOFOLLOW) == 0;
}

bool IsPlainDirectory(int directory, const std::string& name) {
  struct stat info;
  return fstatat(directory, name.c_str(), &info, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(info.st_mode);
}

// Removes `name` in `directory` with all it holds; follows no link.
void RemoveTree(int directory, const std::string& name) {
  const int fd = openat(directory, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  DIR* const stream = fd < 0 ? nullptr : fdopendir(fd);
  if (stream != nullptr) {
    while (const dirent* entry = readdir(stream)) {
      const std::string child = entry->d_name;
      if (child == "." || child == "..") continue;
      if (unlinkat(fd, child.c_str(), 0) != 0 && IsPlainDirectory(fd, child)) RemoveTree(fd, child);
    }
    closedir(stream);
  } else if (fd >= 0) {
    close(fd);
  }
  unlinkat(directory, name.c_str(), AT_REMOVEDIR);
}

std::string RandomSuffix() {
  constexpr std::string_view kAlphabet = "abcdefghijklmnopqrstuvwxyz0123456789";
  std::random_device device;
  std::uniform_int_distribution<size_t> letter(0, kAlphabet.size() - 1);
  std::string suffix;
  for (size_t i = 0; i < kSuffixLength; ++i) suffix += kAlphabet[letter(device)];
  return suffix;
}

// Part of a name.
bool IsKey(std::string_view key) {
  return key.size() >= kSuffixLength &&
         std::all_of(key.begin(), key.end(), [](unsigned char c) { return std::isalnum(c) != 0; });
}

absl::Status AlreadyExists(std::string_view path) {
  return Error(Reason::kOutputExists, path, "already exists",
               "choose another output or ask to overwrite");
}

absl::Status Reserve(int fd, const std::string& path, uint64_t size) {
  if (size == 0) return absl::OkStatus();
  const auto length = static_cast<off_t>(size);
  // fallocate, so that a full disk shows before any work is done.
  if (length < 0) return SystemError(path, "allocate", EFBIG);
  int result;
  do {
    result = TheSystemCalls().reserve(fd, 0, 0, length);
  } while (result != 0 && errno == EINTR);
  if (result != 0 && (errno == EOPNOTSUPP || errno == ENOSYS)) result = ftruncate(fd, length);
  return result == 0 ? absl::OkStatus() : SystemError(path, "allocate", errno);
}

// Of another size it is of no use.
absl::Status EmptyUnlessOfSize(int fd, const std::string& path, uint64_t size) {
  struct stat info;
  if (fstat(fd, &info) != 0) return SystemError(path, "stat", errno);
  if (static_cast<uint64_t>(info.st_size) == size || ftruncate(fd, 0) == 0) {
    return absl::OkStatus();
  }
  return SystemError(path, "truncate", errno);
}

absl::Status FlushAt(int directory, const std::string& name, int flags, const std::string& path) {
  const FileDescriptor fd = OpenWithin(directory, name, flags, kResolve);
  if (!fd.valid()) return SystemError(path, "open to flush", errno);
  return TheSystemCalls().flush(fd.get()) == 0 ? absl::OkStatus()
                                               : SystemError(path, "flush", errno);
}

}  // namespace

std::string LocalOutputDirectory::TemporaryPrefix(std::string_view name) {
  const size_t room = NAME_MAX - kMark.size() - kSuffixLength - 1;
  return fmt::format(".{}{}", name.substr(0, room), kMark);
}

absl::StatusOr<std::unique_ptr<OutputDirectory>> LocalOutputDirectory::Create(FileDescriptor parent,
                                                                              std::string name,
                                                                              std::string path,
                                                                              Options options) {
  if (Exists(parent.get(), name)) {
    if (!options.overwrite) return AlreadyExists(path);
    if (!IsPlainDirectory(parent.get(), name)) {
      return Error(Reason::kOutputExists, path, "exists and is not a directory",
                   "choose another output");
    }
  }
  std::unique_ptr<LocalOutputDirectory> output(
      new LocalOutputDirectory(std::move(parent), std::move(name), std::move(path), options));
  bool taken = false;
  if (IsKey(options.key)) {
    ASSIGN_OR_RETURN(taken, output->TakeOver(options.key));
  }
  if (!taken) RETURN_IF_ERROR(output->MakeTemporary());
  return output;
}

bool LocalOutputDirectory::StandsAt(int parent, const std::string& name, int fd) {
  struct stat opened;
  struct stat named;
  return fstat(fd, &opened) == 0 &&
         fstatat(parent, name.c_str(), &named, AT_SYMLINK_NOFOLLOW) == 0 &&
         named.st_ino == opened.st_ino && named.st_dev == opened.st_dev;
}

LocalOutputDirectory::~LocalOutputDirectory() {
  if (!committed_ && !temporary_name_.empty()) RemoveTree(parent_.get(), temporary_name_);
}

absl::Status LocalOutputDirectory::MakeTemporary() {
  for (int attempt = 0; attempt < 100; ++attempt) {
    const std::string name = TemporaryPrefix(name_) + RandomSuffix();
    if (TheSystemCalls().make_directory(parent_.get(), name.c_str(), 0777) != 0) {
      if (errno == EEXIST) continue;
      return SystemError(path_, "create a directory beside it", errno);
    }
    temporary_ = OpenWithin(parent_.get(), name, O_RDONLY | O_DIRECTORY, kResolve);
    if (!temporary_.valid() && errno != ENOENT) {
      temporary_name_ = name;
      return SystemError(path_, "open its temporary directory", errno);
    }
    if (!temporary_.valid()) continue;
    // Until now it looked like one that was left, and another process may have removed it
    // or be about it.  Where locks do not work, nothing looks like that.
    const bool removed = flock(temporary_.get(), LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK;
    if (removed || !StandsAt(parent_.get(), name, temporary_.get())) continue;
    temporary_name_ = name;
    return absl::OkStatus();
  }
  return Error(Reason::kStorageFailed, path_, "found no free temporary name beside it");
}

void LocalOutputDirectory::RemoveStale(int parent, const std::string& of) {
  const int fd = openat(parent, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  DIR* const stream = fd < 0 ? nullptr : fdopendir(fd);
  if (stream == nullptr) {
    if (fd >= 0) close(fd);
    return;
  }
  const std::string prefix = TemporaryPrefix(of);
  while (const dirent* entry = readdir(stream)) {
    const std::string name = entry->d_name;
    if (!name.starts_with(prefix) || name.size() != prefix.size() + kSuffixLength) continue;
    const FileDescriptor stale = OpenWithin(fd, name, O_RDONLY | O_DIRECTORY, kResolve);
    if (!stale.valid() || flock(stale.get(), LOCK_EX | LOCK_NB) != 0) continue;
    // Unless it was published meanwhile, and the next run of its key has taken the name.
    if (StandsAt(fd, name, stale.get())) RemoveTree(fd, name);
  }
  closedir(stream);
}

absl::Status LocalOutputDirectory::MakeFolders(std::string_view name) {
  for (size_t slash = name.find('/'); slash != std::string_view::npos;
       slash = name.find('/', slash + 1)) {
    const std::string folder(name.substr(0, slash));
    // The names are plain and the directory is ours alone, so no link can be met.
    if (TheSystemCalls().make_directory(temporary_.get(), folder.c_str(), 0777) != 0 &&
        errno != EEXIST) {
      return SystemError(path_ + "/" + folder, "create the directory", errno);
    }
    folders_.insert(folder);
  }
  return absl::OkStatus();
}

absl::Status LocalOutputDirectory::Claim(std::string_view name) {
  RETURN_IF_ERROR(CheckRelativeName(name));
  const std::lock_guard lock(mutex_);
  // Not before: who only asks whether it could write here takes nothing away.
  if (files_.empty()) RemoveStale(parent_.get(), name_);
  RETURN_IF_ERROR(MakeFolders(name));
  if (files_.emplace(name).second) return absl::OkStatus();
  return AlreadyExists(fmt::format("{}/{}", path_, name));
}

absl::StatusOr<std::unique_ptr<WritableFile>> LocalOutputDirectory::CreateFile(
    std::string_view name, uint64_t size) {
  RETURN_IF_ERROR(Claim(name));
  const std::string path = fmt::format("{}/{}", path_, name);
  const std::string file_name(name);
  // Where it was taken over, with what it holds already.
  const int flags = O_RDWR | O_CREAT | (notes_.valid() ? 0 : O_EXCL);
  FileDescriptor fd = OpenWithin(temporary_.get(), file_name, flags, kResolve, 0666);
  if (!fd.valid()) return SystemError(path, "create", errno);
  if (notes_.valid()) RETURN_IF_ERROR(EmptyUnlessOfSize(fd.get(), path, size));
  RETURN_IF_ERROR(Reserve(fd.get(), path, size));
  return std::make_unique<LocalWritableFile>(std::move(fd), path, size);
}

absl::Status LocalOutputDirectory::TakeFile(std::string_view name, const ReadableFile& from,
                                            const RunContext& context) {
  const auto* const local = dynamic_cast<const LocalFile*>(&from);
  if (local == nullptr) return OutputDirectory::TakeFile(name, from, context);
  RETURN_IF_ERROR(Claim(name));
  if (TheSystemCalls().link(local->descriptor(), temporary_.get(), std::string(name).c_str()) ==
      0) {
    return absl::OkStatus();
  }
  {
    const std::lock_guard lock(mutex_);
    files_.erase(std::string(name));
  }
  return OutputDirectory::TakeFile(name, from, context);
}

absl::Status LocalOutputDirectory::Remove(const FileDescriptor& parent, const std::string& name,
                                          const std::string& path) {
  RemoveStale(parent.get(), name);
  if (!Exists(parent.get(), name)) {
    return Error(Reason::kSourceNotFound, path, "no such directory");
  }
  if (!IsPlainDirectory(parent.get(), name)) {
    return Error(Reason::kPathNotAllowed, path, "not a directory");
  }
  // Under a name that counts as left behind, should this be cut short.
  const std::string away = TemporaryPrefix(name) + RandomSuffix();
  if (TheSystemCalls().rename(parent.get(), name.c_str(), parent.get(), away.c_str(),
                              RENAME_NOREPLACE) != 0) {
    return SystemError(path, "remove", errno);
  }
  RemoveTree(parent.get(), away);
  return absl::OkStatus();
}

absl::Status LocalOutputDirectory::Flush() const {
  if (!options_.durable) return absl::OkStatus();
  for (const std::string& file : files_) {
    RETURN_IF_ERROR(FlushAt(temporary_.get(), file, O_RDONLY, path_ + "/" + file));
  }
  for (const std::string& folder : folders_) {
    RETURN_IF_ERROR(
        FlushAt(temporary_.get(), folder, O_RDONLY | O_DIRECTORY, path_ + "/" + folder));
  }
  return TheSystemCalls().flush(temporary_.get()) == 0 ? absl::OkStatus()
                                                       : SystemError(path_, "flush", errno);
}

absl::Status LocalOutputDirectory::FlushParent() const {
  if (!options_.durable || TheSystemCalls().flush(parent_.get()) == 0) return absl::OkStatus();
  return SystemError(path_, "flush", errno);
}

absl::Status LocalOutputDirectory::Publish() {
  const auto rename_with = [this](unsigned flags) {
    return TheSystemCalls().rename(parent_.get(), temporary_name_.c_str(), parent_.get(),
                                   name_.c_str(), flags);
  };
  if (rename_with(RENAME_NOREPLACE) == 0) return absl::OkStatus();
  if (errno == EINVAL && !Exists(parent_.get(), name_)) {
    // A file system without RENAME_NOREPLACE; a plain rename replaces at most
    // an empty directory that came there meanwhile.
    if (rename_with(0) == 0) return absl::OkStatus();
  }
  if (errno != EEXIST && errno != ENOTEMPTY && errno != EINVAL) {
    return SystemError(path_, "rename the finished output to it", errno);
  }
  if (!options_.overwrite) return AlreadyExists(path_);
  // What was there gets a name under which it counts as left, until it is sure to go.
  replaced_directory_ = OpenWithin(parent_.get(), name_, O_RDONLY | O_DIRECTORY, kResolve);
  if (replaced_directory_.valid()) flock(replaced_directory_.get(), LOCK_EX | LOCK_NB);
  if (!IsPlainDirectory(parent_.get(), name_) || rename_with(RENAME_EXCHANGE) != 0) {
    return SystemError(path_, "exchange it for the finished output", errno);
  }
  replaced_ = true;  // the temporary name is now that of what was there
  return absl::OkStatus();
}

void LocalOutputDirectory::Withdraw() {
  const unsigned flags = replaced_ ? RENAME_EXCHANGE : RENAME_NOREPLACE;
  const int result = TheSystemCalls().rename(parent_.get(), name_.c_str(), parent_.get(),
                                             temporary_name_.c_str(), flags);
  // Where not even that works, the output stays, whole.
  committed_ = result != 0;
}

absl::Status LocalOutputDirectory::Commit() {
  const std::lock_guard lock(mutex_);
  if (committed_) return Error(Reason::kInternal, path_, "committed twice");
  if (notes_.valid()) RemoveLeftovers();
  RETURN_IF_ERROR(Flush());
  RETURN_IF_ERROR(Publish());
  committed_ = true;
  const absl::Status status = FlushParent();
  if (!status.ok()) Withdraw();
  if (replaced_ && committed_) RemoveTree(parent_.get(), temporary_name_);
  return status;
}

}  // namespace linchpin
