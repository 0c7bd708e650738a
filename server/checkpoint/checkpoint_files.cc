#include "checkpoint/checkpoint_files.h"

#include <algorithm>
#include <array>

#include "base/status.h"
#include "fmt/format.h"
#include "format/shard_index.h"

namespace linchpin {
namespace {

constexpr std::string_view kSafetensors = ".safetensors";

// Weights in other formats: never opened, never copied.
bool IsForeignWeights(std::string_view name) {
  constexpr std::array<std::string_view, 12> kSuffixes = {
      ".bin",  ".pt",        ".pth",     ".ckpt",           ".pkl",          ".h5", ".gguf",
      ".onnx", ".onnx_data", ".msgpack", ".bin.index.json", ".h5.index.json"};
  return std::any_of(kSuffixes.begin(), kSuffixes.end(),
                     [name](std::string_view suffix) { return name.ends_with(suffix); });
}

// Names go into manifests and messages, which are UTF-8.
bool IsUtf8(std::string_view text) {
  while (!text.empty()) {
    const size_t length = Utf8Length(text);
    if (length == 0) return false;
    text.remove_prefix(length);
  }
  return true;
}

absl::Status NotACheckpoint(std::string_view path, std::string_view why, std::string_view remedy) {
  return Error(Reason::kNotACheckpoint, path, why, remedy);
}

absl::Status RequireConfig(const Storage& storage, std::string_view path,
                           const std::string& directory) {
  const auto config = storage.Open(JoinPath(directory, kConfigName));
  if (config.ok() || ReasonOf(config.status()) != Reason::kSourceNotFound) return config.status();
  return NotACheckpoint(path, fmt::format("no {} in {}", kConfigName, directory),
                        "give the directory of a model in the Hugging Face layout");
}

absl::StatusOr<CheckpointFiles> FromFile(const Storage& storage, std::string_view path) {
  if (!path.ends_with(kSafetensors)) {
    return NotACheckpoint(path, "neither a directory nor a .safetensors or .gguf file",
                          "give the directory of a model in the Hugging Face layout");
  }
  CheckpointFiles files;
  files.directory = DirectoryOf(path);
  files.single = FileNameOf(path);
  RETURN_IF_ERROR(RequireConfig(storage, path, files.directory));
  return files;
}

absl::Status NoWeights(std::string_view path, const std::vector<FileEntry>& listing) {
  for (const FileEntry& file : listing) {
    if (file.name.ends_with(kSafetensors)) {
      return NotACheckpoint(path,
                            fmt::format("holds {} but neither {} nor {}", file.name,
                                        kSingleShardName, kShardIndexName),
                            "rename it, or give that file itself");
    }
  }
  for (const FileEntry& file : listing) {
    if (IsForeignWeights(file.name)) {
      return NotACheckpoint(path, fmt::format("holds {} but no safetensors", file.name),
                            file.name.ends_with(kGgufSuffix)
                                ? "give that file itself"
                                : "convert the checkpoint to safetensors first");
    }
  }
  return NotACheckpoint(path,
                        fmt::format("holds neither {} nor {}", kSingleShardName, kShardIndexName),
                        "give the directory of a model in the Hugging Face layout");
}

}  // namespace

std::string DirectoryOf(std::string_view path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string_view::npos) return "";
  return std::string(path.substr(0, std::max<size_t>(slash, 1)));
}

std::string FileNameOf(std::string_view path) {
  return std::string(path.substr(path.rfind('/') + 1));
}

std::string JoinPath(std::string_view directory, std::string_view name) {
  if (directory.empty()) return std::string(name);
  return fmt::format("{}{}{}", directory, directory.back() == '/' ? "" : "/", name);
}

absl::StatusOr<CheckpointFiles> FindCheckpointFiles(const Storage& storage, std::string_view path) {
  ASSIGN_OR_RETURN(const bool is_directory, storage.IsDirectory(path));
  if (!is_directory) return FromFile(storage, path);
  CheckpointFiles files;
  files.directory = path;
  RETURN_IF_ERROR(RequireConfig(storage, path, files.directory));
  ASSIGN_OR_RETURN(const std::vector<FileEntry> listing, storage.List(path));
  const auto holds = [&listing](std::string_view name) {
    return std::any_of(listing.begin(), listing.end(),
                       [name](const FileEntry& file) { return file.name == name; });
  };
  files.has_index = holds(kShardIndexName);
  if (!files.has_index) {
    if (!holds(kSingleShardName)) return NoWeights(path, listing);
    files.single = kSingleShardName;
  }
  for (const FileEntry& file : listing) {
    if (!IsUtf8(file.name)) {
      return NotACheckpoint(path, fmt::format("the file name {} is not UTF-8", file.name),
                            "rename it");
    }
    const bool own = file.name == kConfigName || file.name == kShardIndexName;
    if (!own && !file.name.ends_with(kSafetensors) && !IsForeignWeights(file.name)) {
      files.other.push_back(file);
    }
  }
  return files;
}

}  // namespace linchpin
