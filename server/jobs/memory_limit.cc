#include "jobs/memory_limit.h"

#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

namespace linchpin {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kUnlimited = std::numeric_limits<uint64_t>::max();
constexpr uint64_t kBaselineBytes = uint64_t{384} << 20;

uint64_t PhysicalBytes() {
  const long pages = sysconf(_SC_PHYS_PAGES);
  const long page_bytes = sysconf(_SC_PAGE_SIZE);
  if (pages <= 0 || page_bytes <= 0) return kUnlimited;
  return static_cast<uint64_t>(pages) * static_cast<uint64_t>(page_bytes);
}

// "max", an absent file and anything else that is no number do not limit.
uint64_t ReadLimit(const fs::path& file) {
  std::ifstream stream(file);
  uint64_t bytes = 0;
  return stream >> bytes ? bytes : kUnlimited;
}

// The smallest limit between `group` and the root of the hierarchy at `mount`.
// A container often sees its own group as the root, so that the path in
// /proc/self/cgroup leads nowhere; the root is read in every case.
uint64_t SmallestOnTheWay(const fs::path& mount, std::string_view group, const char* file) {
  uint64_t smallest = ReadLimit(mount / file);
  fs::path directory = mount;
  for (const fs::path& part : fs::path(group).relative_path()) {
    directory /= part;
    smallest = std::min(smallest, ReadLimit(directory / file));
  }
  return smallest;
}

}  // namespace

uint64_t MemoryLimit(const MemoryLimitSources& sources) {
  uint64_t limit = sources.physical_bytes != 0 ? sources.physical_bytes : PhysicalBytes();
  std::ifstream groups(sources.cgroup_file);
  // Lines read ID:CONTROLLERS:PATH; v2 is the line "0::PATH".
  for (std::string line; std::getline(groups, line);) {
    const size_t first = line.find(':');
    const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const std::string path = line.substr(second + 1);
    if (controllers.empty()) {
      limit = std::min(limit, SmallestOnTheWay(sources.cgroup_root, path, "memory.max"));
    } else if (("," + controllers + ",").find(",memory,") != std::string::npos) {
      limit = std::min(
          limit, SmallestOnTheWay(sources.cgroup_root / "memory", path, "memory.limit_in_bytes"));
    }
  }
  return limit;
}

uint64_t MemoryForJobs(uint64_t limit) {
  // A quarter stays in reach even where the limit is hardly above the baseline.
  return std::max(limit / 4, limit - std::min(limit, kBaselineBytes));
}

}  // namespace linchpin
