#include "tests/support/shared.h"

#include <fstream>
#include <iterator>
#include <string>

namespace linchpin {

std::filesystem::path SharedPath(std::string_view relative) {
  const char* configured = std::getenv("LINCHPIN_SHARED");
  const std::filesystem::path source = LINCHPIN_SOURCE_DIR;
  const std::filesystem::path shared =
      configured != nullptr && *configured != '\0' ? configured : "../shared";
  return std::filesystem::weakly_canonical(source / shared) / relative;
}

std::string ReadFileText(const std::filesystem::path& path) {
  std::ifstream stream(path, std::ios::binary);
  EXPECT_TRUE(stream.good()) << path << " cannot be read";
  return {std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
}

}  // namespace linchpin
