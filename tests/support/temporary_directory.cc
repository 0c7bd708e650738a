#include "tests/support/temporary_directory.h"

#include <sys/stat.h>

#include <chrono>
#include <cstdlib>
#include <fstream>
#include <stdexcept>
#include <thread>

namespace linchpin {

TemporaryDirectory::TemporaryDirectory() {
  std::string name =
      (std::filesystem::canonical(std::filesystem::temp_directory_path()) / "linchpin-test-XXXXXX")
          .string();
  if (mkdtemp(name.data()) == nullptr) throw std::runtime_error("mkdtemp failed: " + name);
  path_ = name;
}

TemporaryDirectory::~TemporaryDirectory() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::string TemporaryDirectory::Write(std::string_view name, std::string_view content) const {
  const std::filesystem::path file = path_ / name;
  std::filesystem::create_directories(file.parent_path());
  std::ofstream stream(file, std::ios::binary);
  stream << content;
  stream.close();
  if (!stream) throw std::runtime_error("cannot write " + file.string());
  return file.string();
}

void TemporaryDirectory::AwaitTick() const {
  const auto now = [this] {
    struct stat info {};
    if (stat(Write(".tick", "").c_str(), &info) != 0) throw std::runtime_error("no stat of .tick");
    return std::pair(info.st_ctim.tv_sec, info.st_ctim.tv_nsec);
  };
  for (const auto before = now(); now() == before;) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  std::filesystem::remove(path_ / ".tick");
}

}  // namespace linchpin
