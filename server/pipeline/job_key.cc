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
constexpr uint64_t kBlocks = 64;         // of a whole checkpoint
constexpr uint64_t kSampledBlocks = 16;  // of one file

void Update(Sha256& digest, const std::string& text) {
  digest.Update({reinterpret_cast<const std::byte*>(text.data()), text.size()});
}

// `blocks` of a file of `size` bytes, evenly spread, the first and the last among
// them, where there is more than one.
absl::Status UpdateSamples(uint64_t size, const ReadRange& read, uint64_t blocks, Sha256& digest) {
  std::vector<std::byte> block(std::min(size, kBlockBytes));
  if (block.empty()) return absl::OkStatus();
  const uint64_t last = size - block.size();
  for (uint64_t i = 0; i < blocks; ++i) {
    const uint64_t offset = blocks == 1 ? last / 2 : last * i / (blocks - 1);
    RETURN_IF_ERROR(read(offset, absl::MakeSpan(block)));
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
  const ReadRange read = [&file](uint64_t at, absl::Span<std::byte> out) {
    return file->ReadAt(at, out);
  };
  return UpdateSamples(size, read, blocks, digest);
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

absl::StatusOr<std::string> SampleDigest(uint64_t size, const ReadRange& read) {
  Sha256 digest;
  Update(digest, fmt::format("{}\n", size));
  RETURN_IF_ERROR(UpdateSamples(size, read, kSampledBlocks, digest));
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
