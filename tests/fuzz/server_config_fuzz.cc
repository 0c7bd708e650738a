// The input is the server's --config file.  What is no setting is refused in one line
// that names the file.
#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <string>

#include "options.h"
#include "tests/fuzz/input.h"
#include "tests/fuzz/invariant.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const int file = memfd_create("config", MFD_CLOEXEC);
  static const std::string& path = *new std::string("/proc/self/fd/" + std::to_string(file));
  INVARIANT(ftruncate(file, 0) == 0);
  INVARIANT(pwrite(file, data, size, 0) == static_cast<ssize_t>(size));
  const char* const arguments[] = {"linchpin-server", "--config", path.c_str()};
  const linchpin::ParsedOptions parsed = linchpin::ParseServerOptions(3, arguments);
  if (!parsed.exit_code) {
    INVARIANT(parsed.options.slots > 0 && parsed.options.threads > 0);
    INVARIANT(parsed.options.max_memory > 0 && !parsed.options.listen.empty());
    return 0;
  }
  INVARIANT(*parsed.exit_code == 2);
  const std::string& text = parsed.text;
  INVARIANT(!text.empty() && text.find('\n') >= text.size() - 1);
  return 0;
}
