#include "pipeline/job_key.h"

#include <algorithm>
#include <vector>

#include "artifact/digest.h"
#include "base/status.h"
#include "fmt/format.h"
#include "fmt/ranges.h"
#include "format/json.h"

namespace linchpin {
namespace {

constexpr uint64_t kBlockBytes = 4096;
constexpr uint64_t kBlocks = 64;  // of a whole checkpoint

void Update(Sha256& digest, const std::string& text) {
  digest.Update({reinterpret_cast<const std::byte*>(text.data()), text.size()});
}

// `blocks` of the file, evenly spread, the first and the last among them.
absl::Status UpdateSamples(const ReadableFile& file, uint64_t blocks, Sha256& digest) {
  std::vector<std::byte> block(std::min(file.size(), kBlockBytes));
  if (block.empty()) return absl::OkStatus();
  const uint64_t last = file.size() - block.size();
  for (uint64_t i = 0; i < blocks; ++i) {
    const uint64_t offset = blocks == 1 ? last / 2 : last / (blocks - 1) * i;
    RETURN_IF_ERROR(file.ReadAt(offset, absl::MakeSpan(block)));
    digest.Update(block);
  }
  return absl::OkStatus();
}

absl::Status UpdateFile(const Checkpoint& checkpoint, const std::string& name, uint64_t size,
                        uint64_t total, Sha256& digest) {
  Update(digest, fmt::format("file {} {} {}\n", name.size(), name, size));
  const auto share = static_cast<double>(size) / static_cast<double>(std::max<uint64_t>(total, 1));
  const uint64_t blocks = std::max<uint64_t>(1, static_cast<uint64_t>(share * kBlocks));
  ASSIGN_OR_RETURN(const auto file, checkpoint.OpenFile(name));
  return UpdateSamples(*file, blocks, digest);
}

}  // namespace

absl::StatusOr<std::string> FingerprintOf(const Checkpoint& checkpoint) {
  Sha256 digest;
  Update(digest, checkpoint.config_text());
  for (const StoredTensor& tensor : checkpoint.tensors()) {
    Update(digest, fmt::format("tensor {} {} {} {} {} {}\n", tensor.info.name.size(),
                               tensor.info.name, NameOf(tensor.info.dtype),
                               fmt::join(tensor.info.shape, ","), tensor.shard, tensor.begin));
  }
  uint64_t total = 0;
  for (const Shard& shard : checkpoint.shards()) total += shard.size;
  for (const Shard& shard : checkpoint.shards()) {
    RETURN_IF_ERROR(UpdateFile(checkpoint, shard.name, shard.size, total, digest));
  }
  for (const FileEntry& file : checkpoint.other_files()) {
    RETURN_IF_ERROR(UpdateFile(checkpoint, file.name, file.size, total, digest));
  }
  return digest.Hex();
}

std::string JobKey(std::string_view kind, std::string_view options, std::string_view source) {
  const Json canonical = {{"algorithm", kAlgorithmVersion},
                          {"kind", std::string(kind)},
                          {"options", Sha256Hex(options)},
                          {"source", std::string(source)}};
  return Sha256Hex(canonical.dump());
}

}  // namespace linchpin
