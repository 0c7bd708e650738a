#include "identity/settings_file.h"

#include <sys/stat.h>

#include <fstream>

#include "fmt/format.h"

namespace linchpin {
namespace {

constexpr size_t kMaxBytes = 1 << 20;

absl::Status Refuse(const std::string& path, std::string_view why) {
  return Error(Reason::kOptionInvalid, path, why, "give a file that the server may read");
}

}  // namespace

absl::StatusOr<std::string> ReadSettingsFile(const std::string& path) {
  std::ifstream stream(path, std::ios::binary);
  std::string text(kMaxBytes + 1, '\0');
  stream.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (!stream.is_open() || stream.bad()) return Refuse(path, "it cannot be read");
  text.resize(static_cast<size_t>(stream.gcount()));
  if (text.size() > kMaxBytes) return Refuse(path, "it has more than 1 MiB");
  return text;
}

std::string FileStamp(const std::string& path) {
  struct stat file {};
  if (stat(path.c_str(), &file) != 0) return {};
  return fmt::format("{}:{}:{}.{}", file.st_ino, file.st_size, file.st_ctim.tv_sec,
                     file.st_ctim.tv_nsec);
}

}  // namespace linchpin
