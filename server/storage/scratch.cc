#include "storage/scratch.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <system_error>
#include <utility>

#include "base/status.h"
#include "storage/local_storage.h"

namespace linchpin {
namespace {

namespace fs = std::filesystem;

constexpr char kPrefix[] = "linchpin-scratch-";

void RemoveAll(const std::string& path) {
  std::error_code ignored;
  fs::remove_all(path, ignored);
}

// The directory's lock; not valid where another process has it.
FileDescriptor Lock(const std::string& path) {
  FileDescriptor fd(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (fd.valid() && flock(fd.get(), LOCK_EX | LOCK_NB) != 0) return {};
  return fd;
}

void RemoveLeft(const std::string& directory) {
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(directory, error)) {
    if (!entry.path().filename().string().starts_with(kPrefix)) continue;
    const FileDescriptor lock = Lock(entry.path());
    if (lock.valid()) RemoveAll(entry.path());
  }
}

// A new directory `prefix`XXXXXX, the caller's alone; empty and errno set on failure.
std::string MakeDirectory(std::string prefix) {
  prefix += "XXXXXX";
  return mkdtemp(prefix.data()) == nullptr ? std::string() : prefix;
}

bool IsStillThere(const FileDescriptor& fd) {
  struct stat info;
  return fd.valid() && fstat(fd.get(), &info) == 0 && info.st_nlink > 0;
}

}  // namespace

ScratchPlace::~ScratchPlace() { RemoveAll(path_); }

absl::StatusOr<std::unique_ptr<Scratch>> Scratch::Create(const std::string& directory) {
  const auto refuse = [&](std::string_view why) {
    return Error(Reason::kOptionInvalid, "--scratch-dir " + directory, why,
                 "name an absolute directory that the server may write");
  };
  std::error_code error;
  if (!fs::path(directory).is_absolute() || !fs::is_directory(directory, error)) {
    return refuse("it is not an existing absolute directory");
  }
  RemoveLeft(directory);
  const fs::space_info space = fs::space(directory, error);
  for (int attempt = 0; attempt < 100; ++attempt) {
    std::string own = MakeDirectory(directory + "/" + kPrefix);
    if (own.empty()) return refuse(std::generic_category().message(errno));
    FileDescriptor lock = Lock(own);
    // Between the two a server that starts may have taken it for left.
    if (!IsStillThere(lock)) continue;
    return std::unique_ptr<Scratch>(
        new Scratch(std::move(own), std::move(lock), error ? 0 : space.available));
  }
  return refuse("other servers remove what this one makes there");
}

Scratch::~Scratch() { RemoveAll(own_); }

absl::StatusOr<std::unique_ptr<ScratchPlace>> Scratch::NewPlace() const {
  std::string path = MakeDirectory(own_ + "/call-");
  if (path.empty()) return SystemError("scratch directory", "make a place in it", errno);
  ASSIGN_OR_RETURN(auto storage, LocalStorage::Create({.write_roots = {path}, .durable = false}));
  return std::make_unique<ScratchPlace>(std::move(path), std::move(storage));
}

}  // namespace linchpin
