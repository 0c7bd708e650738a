// `model.safetensors.index.json`: which shard holds which tensor.
//
//   {"metadata": {"total_size": BYTES}, "weight_map": {TENSOR: FILE, ...}}
//
// Shard names are opaque and may only be plain file names ending in
// `.safetensors`: no separator, no "..", no percent escape, no control byte.
// Pure functions, no I/O.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace linchpin {

inline constexpr std::string_view kShardIndexName = "model.safetensors.index.json";

struct ShardIndex {
  // Bytes of all tensors as the file says; 0 if it does not.  Files in
  // circulation are often wrong here, so nothing may rely on it.
  uint64_t total_size = 0;
  std::map<std::string, std::string> weight_map;  // tensor -> shard file name
};

// INDEX_INVALID names `file` and the entry.
absl::StatusOr<ShardIndex> ParseShardIndex(std::string_view file, std::string_view json);

// Two-space indented, keys sorted, newline at the end.
std::string SerializeShardIndex(const ShardIndex& index);

// True for what a shard may be called.
bool IsShardName(std::string_view name);

}  // namespace linchpin
