// The input is the importance.safetensors of a job in parts, whose header is as the job
// remembers it: every vector is of a tensor of the source, and as long as one of its sides.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "artifact/digest.h"
#include "pipeline/shard_importance.h"
#include "tests/fuzz/input.h"
#include "tests/fuzz/invariant.h"
#include "tests/support/tiny_checkpoint.h"

namespace {

using linchpin::Checkpoint;

const linchpin::MemoryStorage& Model() {
  static const auto& storage = *[] {
    auto* made = new linchpin::MemoryStorage;
    linchpin::PutTinyCheckpoint(*made, "/m", {.shards = 2});
    return made;
  }();
  return storage;
}

// Prefix and JSON, as far as they are there.
std::string_view HeaderOf(std::string_view file) {
  const auto* bytes = reinterpret_cast<const std::byte*>(file.data());
  const auto length = linchpin::SafetensorsHeaderLength("fuzz", {bytes, file.size()}, file.size());
  return length.ok() ? file.substr(0, 8 + *length) : std::string_view();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const Checkpoint& checkpoint = *new Checkpoint(*Checkpoint::Open(Model(), "/m"));
  const std::string_view file = TextOf(data, size);
  const linchpin::ShardJob job{.source = "/m",
                               .destination = "/out",
                               .key = std::string(64, 'a'),
                               .importance_sha256 = linchpin::Sha256Hex(HeaderOf(file))};
  linchpin::MemoryStorage storage;
  storage.Put(linchpin::ImportanceDirectory(job) + "/importance.safetensors",
              linchpin::ToBytes(file));
  for (const std::optional<int> index : {std::optional<int>(), std::optional(0)}) {
    const auto read = linchpin::ReadImportance(storage, job, checkpoint, index);
    if (!read.ok()) continue;
    for (const auto& [name, statistics] : read->importance) {
      const auto tensor = checkpoint.Find(name);
      INVARIANT(tensor.ok());
      const std::vector<int64_t>& shape = (*tensor)->info.shape;
      const auto channels = static_cast<int64_t>(statistics->mean_squares.size());
      INVARIANT(std::find(shape.begin(), shape.end(), channels) != shape.end());
    }
  }
  return 0;
}
