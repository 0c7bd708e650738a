// Opens paths beneath configured roots, and nothing outside them.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "storage/file_descriptor.h"

namespace linchpin {

// An absolute path without ".", "..", doubled or trailing slashes.
// PATH_NOT_ALLOWED if it is relative or holds a NUL.
absl::StatusOr<std::string> NormalPath(std::string_view path);

// The RESOLVE_ flags for opening beneath `root`.
uint64_t ResolveFlags(const std::string& root, bool allow_symlinks);

// Opens `path` (normal) beneath the first of `roots` that holds it and has it.
// PATH_NOT_ALLOWED outside all roots or across a link; SOURCE_NOT_FOUND;
// STORAGE_FAILED.
absl::StatusOr<FileDescriptor> OpenBeneath(const std::vector<std::string>& roots,
                                           const std::string& path, int flags, bool allow_symlinks);

// The error for a symbolic link that is not followed.
absl::Status LinkNotFollowed(std::string_view path);

}  // namespace linchpin
