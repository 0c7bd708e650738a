// How much memory this process may use: what the kernel will kill it for.
#pragma once

#include <cstdint>
#include <filesystem>

namespace linchpin {

// Where to look; the defaults are the real places, tests give their own.
struct MemoryLimitSources {
  std::filesystem::path cgroup_file = "/proc/self/cgroup";
  std::filesystem::path cgroup_root = "/sys/fs/cgroup";
  uint64_t physical_bytes = 0;  // 0: ask the system
};

// The smallest of the physical memory and every limit on the way from the
// process's cgroup to the root: `memory.max` (v2), `memory.limit_in_bytes` (v1).
// What cannot be read does not limit.
uint64_t MemoryLimit(const MemoryLimitSources& sources = {});

// What jobs may reserve of `limit`: the server itself, LibTorch's code and
// gRPC's buffers are left out.
uint64_t MemoryForJobs(uint64_t limit);

}  // namespace linchpin
