#include "storage/confined_path.h"

#include <fcntl.h>
#include <linux/openat2.h>

#include <cerrno>
#include <filesystem>

#include "base/status.h"

namespace linchpin {
namespace {

// `path` relative to `root` ("." for the root itself); empty if it is not beneath.
std::string Relative(const std::string& root, const std::string& path) {
  if (path == root) return ".";
  const std::string prefix = root == "/" ? root : root + "/";
  return path.starts_with(prefix) ? path.substr(prefix.size()) : "";
}

absl::Status NotAllowed(std::string_view path) {
  return Error(Reason::kPathNotAllowed, path, "outside the directories that may be used",
               "choose a path beneath a configured root");
}

absl::Status OpenError(const std::string& path, int error) {
  switch (error) {
    case ENOENT:
    case ENOTDIR:
    case ENAMETOOLONG:
      return Error(Reason::kSourceNotFound, path, "no such file or directory", "check the path");
    case ELOOP:
      return LinkNotFollowed(path);
    case EXDEV:
      return Error(Reason::kPathNotAllowed, path,
                   "a symbolic link on the way leaves the directories that may be used",
                   "copy what it points to in its place");
    case ENXIO:
      return Error(Reason::kPathNotAllowed, path, "not a regular file");
    case ENOSYS:
      return Error(Reason::kStorageFailed, path, "the kernel has no openat2",
                   "Linux 5.6 or later is needed");
    default:
      return SystemError(path, "open", error);
  }
}

}  // namespace

absl::StatusOr<std::string> NormalPath(std::string_view path) {
  if (path.empty() || path.front() != '/' || path.find('\0') != std::string_view::npos) {
    return Error(Reason::kPathNotAllowed, path, "not an absolute path");
  }
  std::string normal = std::filesystem::path(path).lexically_normal().string();
  while (normal.size() > 1 && normal.back() == '/') normal.pop_back();
  const size_t first = normal.find_first_not_of('/');
  return first == std::string::npos ? "/" : normal.substr(first - 1);
}

uint64_t ResolveFlags(const std::string& root, bool allow_symlinks) {
  if (!allow_symlinks) return RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS;
  // Everything is beneath "/", but RESOLVE_BENEATH would refuse absolute links.
  if (root == "/") return RESOLVE_NO_MAGICLINKS;
  return RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS;
}

absl::StatusOr<FileDescriptor> OpenBeneath(const std::vector<std::string>& roots,
                                           const std::string& path, int flags,
                                           bool allow_symlinks) {
  absl::Status error = NotAllowed(path);
  for (const std::string& root : roots) {
    const std::string relative = Relative(root, path);
    if (relative.empty()) continue;
    const FileDescriptor base(open(root.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (!base.valid()) {
      error = OpenError(root, errno);
      continue;
    }
    FileDescriptor file =
        OpenWithin(base.get(), relative, flags, ResolveFlags(root, allow_symlinks));
    if (file.valid()) return file;
    error = OpenError(path, errno);
  }
  return error;
}

absl::Status LinkNotFollowed(std::string_view path) {
  return Error(Reason::kPathNotAllowed, path,
               "a symbolic link, which is not followed for a server's callers",
               "copy the files in place of their links, as with cp -rL");
}

}  // namespace linchpin
