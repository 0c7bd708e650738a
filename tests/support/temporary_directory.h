// A directory for one test, removed with all it holds.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

namespace linchpin {

class TemporaryDirectory {
 public:
  TemporaryDirectory();
  ~TemporaryDirectory();
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;

  // Absolute, without symbolic links.
  const std::filesystem::path& path() const { return path_; }
  std::string operator/(std::string_view name) const { return (path_ / name).string(); }
  // Writes a file, making its directories; returns its path.
  std::string Write(std::string_view name, std::string_view content) const;
  // Returns once the file system's clock has moved on: what is written from now
  // on has another time than all that was written before.
  void AwaitTick() const;

 private:
  std::filesystem::path path_;
};

}  // namespace linchpin
