// Which files of a directory make up a checkpoint.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "storage/storage.h"

namespace linchpin {

inline constexpr std::string_view kConfigName = "config.json";
inline constexpr std::string_view kSingleShardName = "model.safetensors";
inline constexpr std::string_view kGgufSuffix = ".gguf";

struct CheckpointFiles {
  std::string directory;
  bool has_index = false;
  std::string single;  // the one weight file where there is no index
  // All but config.json, the index and weights, in whatever format.
  std::vector<FileEntry> other;
};

// NOT_A_CHECKPOINT saying what is missing.  `path` is a directory or a
// `.safetensors` file with a config.json beside it; of the latter's directory
// nothing else is listed, as nobody said that it belongs to the model.
absl::StatusOr<CheckpointFiles> FindCheckpointFiles(const Storage& storage, std::string_view path);

// The directory of a file, empty where the path names none; its last component.
std::string DirectoryOf(std::string_view path);
std::string FileNameOf(std::string_view path);

// directory/name
std::string JoinPath(std::string_view directory, std::string_view name);

}  // namespace linchpin
