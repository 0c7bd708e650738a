// The few local files that the command line reads and writes itself.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

#include "grpcpp/support/status.h"

namespace linchpin {

// Reads a whole file of at most `limit` bytes.
grpc::Status ReadLocalFile(const std::filesystem::path& path, uint64_t limit, std::string& text);

// Writes a file whole or not at all, replacing what is there.
grpc::Status WriteLocalFile(const std::filesystem::path& path, std::string_view text);

// The path as a server needs it: a URI and an absolute path as they are, a
// relative path under the working directory, without a slash at the end.
std::string AbsolutePath(const std::string& path);

// The same with the links of the containing directory resolved: what a server
// on this machine opens without following links itself.
std::string ResolvedPath(const std::string& path);

// Writes all bytes to a file descriptor; false leaves the cause in errno.
bool WriteAll(int fd, std::string_view bytes);

// Flushes a file or directory to the medium; false leaves the cause in errno.
bool FlushToMedium(const std::filesystem::path& path);

}  // namespace linchpin
