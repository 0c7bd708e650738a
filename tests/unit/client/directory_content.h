// What lies in a directory that a test wrote to.
#pragma once

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

namespace linchpin {

inline std::string ReadAll(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// Entries of the directory itself, hidden ones too.
inline size_t EntryCount(const std::filesystem::path& directory) {
  return static_cast<size_t>(std::distance(std::filesystem::directory_iterator(directory), {}));
}

}  // namespace linchpin
