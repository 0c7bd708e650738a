// The input is a model.safetensors.index.json.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "format/shard_index.h"
#include "tests/fuzz/invariant.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto index = linchpin::ParseShardIndex(
      "fuzz", std::string_view(reinterpret_cast<const char*>(data), size));
  if (!index.ok()) return 0;
  INVARIANT(!index->weight_map.empty());
  for (const auto& [tensor, shard] : index->weight_map) {
    INVARIANT(linchpin::IsShardName(shard));
    INVARIANT(shard.find_first_of("/\\%") == std::string_view::npos);
  }
  const auto again = linchpin::ParseShardIndex("again", linchpin::SerializeShardIndex(*index));
  INVARIANT(again.ok());
  INVARIANT(again->weight_map == index->weight_map && again->total_size == index->total_size);
  return 0;
}
