// How LocalOutputDirectory goes on where a process that was killed stopped.
#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/status.h"
#include "fmt/format.h"
#include "storage/local_output.h"

namespace linchpin {
namespace {

constexpr char kNotesName[] = ".linchpin-notes";  // hidden, as no file of an output is
// Far more than any run writes.
constexpr uint64_t kMaxNotesBytes = uint64_t{1} << 30;

// Removes all below `directory` but the files `keep` and the folders that hold some.
void RemoveAllBut(const std::set<std::string>& keep, int directory, const std::string& prefix) {
  const int fd = openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  DIR* const stream = fd < 0 ? nullptr : fdopendir(fd);
  if (stream == nullptr) {
    if (fd >= 0) close(fd);
    return;
  }
  while (const dirent* entry = readdir(stream)) {
    const std::string name = entry->d_name;
    if (name == "." || name == ".." || keep.contains(prefix + name)) continue;
    if (unlinkat(fd, name.c_str(), 0) == 0) continue;
    const FileDescriptor folder(
        openat(fd, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (folder.valid()) RemoveAllBut(keep, folder.get(), prefix + name + "/");
    unlinkat(fd, name.c_str(), AT_REMOVEDIR);  // if nothing is left in it
  }
  closedir(stream);
}

}  // namespace

absl::StatusOr<bool> LocalOutputDirectory::TakeOver(std::string_view key) {
  const std::string name = TemporaryPrefix(name_) + std::string(key.substr(0, kSuffixLength));
  const bool made = TheSystemCalls().make_directory(parent_.get(), name.c_str(), 0777) == 0;
  if (!made && errno != EEXIST) return SystemError(path_, "create a directory beside it", errno);
  FileDescriptor fd = OpenWithin(parent_.get(), name, O_RDONLY | O_DIRECTORY, kResolve);
  const bool locked = fd.valid() && flock(fd.get(), LOCK_EX | LOCK_NB) == 0;
  // Where locks do not work, nobody would ever remove it.
  if (made && fd.valid() && !locked && errno != EWOULDBLOCK) {
    unlinkat(parent_.get(), name.c_str(), AT_REMOVEDIR);
  }
  struct stat info;
  // Another process may be at the same job, or just have removed it.
  const bool ours = locked && fstat(fd.get(), &info) == 0 && info.st_uid == geteuid() &&
                    StandsAt(parent_.get(), name, fd.get());
  if (!ours) return false;
  temporary_name_ = name;
  temporary_ = std::move(fd);
  RETURN_IF_ERROR(OpenNotes());
  return true;
}

absl::Status LocalOutputDirectory::OpenNotes() {
  const std::string path = path_ + "/" + kNotesName;
  notes_ = OpenWithin(temporary_.get(), kNotesName, O_RDWR | O_CREAT | O_APPEND, kResolve, 0666);
  if (!notes_.valid()) return SystemError(path, "create", errno);
  struct stat info;
  if (fstat(notes_.get(), &info) != 0) return SystemError(path, "stat", errno);
  const auto size = static_cast<uint64_t>(info.st_size);
  if (!S_ISREG(info.st_mode) || size > kMaxNotesBytes) return absl::OkStatus();
  earlier_notes_.resize(size);
  return ReadFully(notes_.get(), path, 0,
                   {reinterpret_cast<std::byte*>(earlier_notes_.data()), size});
}

absl::Status LocalOutputDirectory::Note(std::string_view text) {
  if (!notes_.valid()) return absl::OkStatus();
  const std::lock_guard lock(mutex_);
  // One call, so that a kill tears at most the last one.  A note that could not be
  // made costs work after a kill, and nothing else.
  ssize_t written;
  do {
    written = write(notes_.get(), text.data(), text.size());
  } while (written < 0 && errno == EINTR);
  return absl::OkStatus();
}

void LocalOutputDirectory::RemoveLeftovers() { RemoveAllBut(files_, temporary_.get(), ""); }

}  // namespace linchpin
